/*
 * Measures an echo server through Debian's libxenvchan: the C counterpart of
 * `vchan bench`, with the same work and the same figures in the same JSON.
 *
 *   vchan-bench DOMID PATH AMOUNT ROUNDTRIPS     PATH is below /local/domain/DOMID
 *   vchan-bench copy                             how fast this machine copies memory
 *
 * For each size of messages AMOUNT bytes are sent, one write for each message,
 * while the echo is read and checked. Then single messages go there and back.
 */
#include <libxenvchan.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST (1 << 20)
#define PERIOD 65521

/* No lower-case letters, so that a capitalizing server changes nothing; as long
 * as the longest message and a period, so that each message is in one piece. */
static unsigned char pattern[PERIOD + MOST];
static unsigned char answer[65536];
static struct libxenvchan *chan;
static uint64_t position;

static void fail(const char *what)
{
    fprintf(stderr, "vchan-bench: %s\n", what);
    exit(1);
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static void fill_pattern(void)
{
    uint32_t state = 0x9e3779b9;

    for (int i = 0; i < PERIOD + MOST; i++) {
        state = state * 1664525 + 1013904223;
        pattern[i] = i < PERIOD ? state >> 24 : pattern[i - PERIOD];
        if (pattern[i] >= 'a' && pattern[i] <= 'z')
            pattern[i] -= 'a' - 'A';
    }
}

/* Compares what came back at a position with what was sent. */
static void check(uint64_t at, const unsigned char *came, int count)
{
    if (memcmp(came, pattern + at % PERIOD, count))
        fail("what came back is not what was sent");
}

/* Sends `count` messages of `size` bytes and takes the echo meanwhile. */
static void stream(uint64_t size, uint64_t count)
{
    uint64_t start = position, all = size * count, sent = 0, received = 0;

    chan->blocking = 0;
    while (received < all) {
        int wrote = 0, came;

        if (sent < all) {
            uint64_t message = start + sent - sent % size;

            wrote = libxenvchan_write(chan, pattern + message % PERIOD + sent % size, size - sent % size);
            if (wrote < 0)
                fail("cannot write");
            sent += wrote;
        }
        came = libxenvchan_read(chan, answer, sizeof(answer));
        if (came < 0)
            fail("cannot read");
        if (came > 0)
            check(start + received, answer, came);
        received += came;
        if (!wrote && !came)
            libxenvchan_wait(chan);
    }
    position += all;
}

static int earlier(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Times `count` messages there and back, each after the answer to the one before. */
static void round_trips(const char *name, int size, int count)
{
    double *times = calloc(count, sizeof(*times));

    chan->blocking = 1;
    for (int i = 0; i < count; i++, position += size) {
        double start = now();

        if (libxenvchan_send(chan, pattern + position % PERIOD, size) != size)
            fail("cannot send");
        if (libxenvchan_recv(chan, answer, size) != size)
            fail("cannot receive");
        times[i] = (now() - start) * 1e6;
        check(position, answer, size);
    }
    qsort(times, count, sizeof(*times), earlier);
    printf(",\"%s\":{\"count\":%d,\"min_us\":%.3f,\"median_us\":%.3f,\"p99_us\":%.3f,\"max_us\":%.3f}", name, count,
           times[0], times[count / 2], times[count * 99 / 100], times[count - 1]);
    free(times);
}

static void copy(void)
{
    static unsigned char to[1 << 16];
    const int count = 1024;
    double start = now(), seconds;

    for (int i = 0; i < count; i++) {
        memcpy(to, pattern + i % 16, sizeof(to));
        /* Whoever reads it next must find it there. */
        __asm__ volatile("" : : "r"(to) : "memory");
    }
    seconds = now() - start;
    printf("{\"copy_mib_per_second\":%.3f}\n", count * sizeof(to) / seconds / (1 << 20));
}

int main(int argc, char **argv)
{
    static const uint64_t sizes[] = { 64, 1 << 10, 4 << 10, 64 << 10, 1 << 20 };
    uint64_t amount;
    double begun, setup;
    char path[256];

    fill_pattern();
    if (argc == 2 && !strcmp(argv[1], "copy")) {
        copy();
        return 0;
    }
    if (argc != 5) {
        fprintf(stderr, "usage: vchan-bench DOMID PATH AMOUNT ROUNDTRIPS | vchan-bench copy\n");
        return 2;
    }
    snprintf(path, sizeof(path), "/local/domain/%s/%s", argv[1], argv[2]);
    begun = now();
    chan = libxenvchan_client_init(NULL, atoi(argv[1]), path);
    setup = now() - begun;
    if (!chan)
        fail("no server there");
    amount = strtoull(argv[3], NULL, 10);
    printf("{\"left\":%d,\"right\":%d,\"setup_us\":%.3f,\"throughput\":[", 1 << chan->write.order,
           1 << chan->read.order, setup * 1e6);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        uint64_t count = (amount + sizes[i] - 1) / sizes[i];
        double start = now(), seconds;

        stream(sizes[i], count);
        seconds = now() - start;
        printf("%s{\"size\":%llu,\"messages\":%llu,\"seconds\":%.6f,\"mib_per_second\":%.3f}", i ? "," : "",
               (unsigned long long)sizes[i], (unsigned long long)count, seconds,
               sizes[i] * count / seconds / (1 << 20));
    }
    printf("]");
    round_trips("rtt", 64, atoi(argv[4]));
    round_trips("rtt_1", 1, atoi(argv[4]));
    printf("}\n");
    libxenvchan_close(chan);
    return 0;
}
