/*
 * Measures a disk past the page cache, one JSON line for each measurement:
 *
 *   blk-bench DEVICE BACKEND [MIB]
 *
 * The first MIB (100) of the disk are written and read in pieces of 1 MiB, one
 * at a time, as "dd bs=1M count=100 oflag=direct" does; then pieces of 4 KiB at
 * random places of it, one at a time, and 32 at a time through io_uring. BACKEND
 * is only repeated. The disk is overwritten.
 *
 * "blk-bench: begin TEST" stands before each measurement and "blk-bench: end"
 * after the last, so that others can measure what it costs them (blk-watch).
 * Latencies are from giving a request to the kernel to having its end. cpu_ms is
 * the time of this process alone, in it and in the kernel on its behalf.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DEPTH 32
#define BIG (1 << 20)
#define SMALL 4096
#define ALONE 4000
#define TOGETHER 16000
#define MOST TOGETHER

static int device;
static const char *backend;
static uint64_t length = 100;
static char *buffer;
static double latency[MOST];
static uint64_t state = 0x9e3779b97f4a7c15;

static void fail(const char *what)
{
    printf("blk-bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double clocked(clockid_t id)
{
    struct timespec time;

    clock_gettime(id, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static double now(void)
{
    return clocked(CLOCK_MONOTONIC);
}

/* A random place for a small piece. */
static uint64_t place(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1d % (length / SMALL) * SMALL;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void report(const char *test, uint64_t count, size_t size, double seconds, double cpu)
{
    qsort(latency, count, sizeof latency[0], ascending);
    printf("{\"test\":\"%s\",\"backend\":\"%s\",\"mib_per_s\":%.2f,\"iops\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,"
           "\"mib\":%.2f,\"cpu_ms\":%.2f}\n",
           test, backend, count * (double)size / BIG / seconds, count / seconds, latency[count / 2] * 1e6,
           latency[count * 99 / 100] * 1e6, count * (double)size / BIG, cpu * 1e3);
}

static void begin(const char *test)
{
    struct timespec rest = { 0, 50000000 };

    printf("blk-bench: begin %s\n", test);
    /* Who watches shall have seen it. */
    nanosleep(&rest, NULL);
}

static void one(int writing, size_t size, uint64_t at)
{
    ssize_t moved = writing ? pwrite(device, buffer, size, at) : pread(device, buffer, size, at);

    if (moved != (ssize_t)size)
        fail(writing ? "write" : "read");
}

static void alone(const char *test, int writing, size_t size, uint64_t count, int random)
{
    double begun, cpu;

    begin(test);
    cpu = clocked(CLOCK_PROCESS_CPUTIME_ID);
    begun = now();
    for (uint64_t number = 0; number < count; number++) {
        double from = now();

        one(writing, size, random ? place() : number * size);
        latency[number] = now() - from;
    }
    report(test, count, size, now() - begun, clocked(CLOCK_PROCESS_CPUTIME_ID) - cpu);
}

/* The rings of io_uring, shared with the kernel. */
static struct {
    int fd;
    unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
} ring;

static void *shared(uint64_t offset, size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, offset);

    if (at == MAP_FAILED)
        fail("mmap of io_uring");
    return at;
}

static void set_up(void)
{
    struct io_uring_params params = { 0 };
    char *sq, *cq;

    ring.fd = syscall(SYS_io_uring_setup, DEPTH, &params);
    if (ring.fd < 0)
        fail("io_uring_setup");
    sq = shared(IORING_OFF_SQ_RING, params.sq_off.array + params.sq_entries * sizeof(unsigned));
    cq = shared(IORING_OFF_CQ_RING, params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe));
    ring.sqes = shared(IORING_OFF_SQES, params.sq_entries * sizeof(struct io_uring_sqe));
    ring.sq_tail = (unsigned *)(sq + params.sq_off.tail);
    ring.sq_mask = (unsigned *)(sq + params.sq_off.ring_mask);
    ring.sq_array = (unsigned *)(sq + params.sq_off.array);
    ring.cq_head = (unsigned *)(cq + params.cq_off.head);
    ring.cq_tail = (unsigned *)(cq + params.cq_off.tail);
    ring.cq_mask = (unsigned *)(cq + params.cq_off.ring_mask);
    ring.cqes = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
}

static void prepare(int writing, int slot)
{
    unsigned tail = *ring.sq_tail, index = tail & *ring.sq_mask;
    struct io_uring_sqe *sqe = &ring.sqes[index];

    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = writing ? IORING_OP_WRITE : IORING_OP_READ;
    sqe->fd = device;
    sqe->addr = (uintptr_t)(buffer + slot * SMALL);
    sqe->len = SMALL;
    sqe->off = place();
    sqe->user_data = slot;
    ring.sq_array[index] = index;
    __atomic_store_n(ring.sq_tail, tail + 1, __ATOMIC_RELEASE);
}

static void together(const char *test, int writing, uint64_t count)
{
    double begun, cpu, since[DEPTH];
    uint64_t sent = 0, done = 0;
    unsigned waiting = 0;

    begin(test);
    cpu = clocked(CLOCK_PROCESS_CPUTIME_ID);
    begun = now();
    for (; sent < DEPTH; sent++, waiting++) {
        since[sent] = now();
        prepare(writing, sent);
    }
    while (done < count) {
        unsigned head = *ring.cq_head;

        if (syscall(SYS_io_uring_enter, ring.fd, waiting, 1, IORING_ENTER_GETEVENTS, NULL, 0) != (long)waiting)
            fail("io_uring_enter");
        waiting = 0;
        for (; head != __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE); head++) {
            struct io_uring_cqe *cqe = &ring.cqes[head & *ring.cq_mask];
            int slot = cqe->user_data;
            double time = now();

            if (cqe->res != SMALL) {
                errno = -cqe->res;
                fail("io_uring");
            }
            latency[done++] = time - since[slot];
            if (sent < count) {
                since[slot] = time;
                prepare(writing, slot);
                sent++;
                waiting++;
            }
        }
        __atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
    }
    report(test, count, SMALL, now() - begun, clocked(CLOCK_PROCESS_CPUTIME_ID) - cpu);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: blk-bench DEVICE BACKEND [MIB]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    backend = argv[2];
    if (argc > 3)
        length = strtoull(argv[3], NULL, 0);
    if (!length || length > MOST)
        length = 100;
    length *= BIG;
    device = open(argv[1], O_RDWR | O_DIRECT);
    if (device < 0)
        fail(argv[1]);
    if (posix_memalign((void **)&buffer, 4096, BIG))
        fail("memory");
    memset(buffer, 0x5a, BIG);
    set_up();
    alone("seq-write-1m", 1, BIG, length / BIG, 0);
    alone("seq-read-1m", 0, BIG, length / BIG, 0);
    alone("rand-read-4k-qd1", 0, SMALL, ALONE, 1);
    together("rand-read-4k-qd32", 0, TOGETHER);
    alone("rand-write-4k-qd1", 1, SMALL, ALONE, 1);
    together("rand-write-4k-qd32", 1, TOGETHER);
    printf("blk-bench: end\n");
    return 0;
}
