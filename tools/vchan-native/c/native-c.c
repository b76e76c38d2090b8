/*
 * Both ends of the measurement on Xen's libxenvchan: what src/role.rs does with ours.
 *
 *   native-c server RING      serves one client, until it says that it is done
 *   native-c client < JOBS    a job a line: "stream SIZE COUNT" or "trip SIZE COUNT"; prints the
 *                             seconds of each
 */
#define _GNU_SOURCE
#include <libxenvchan.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PATH "/local/domain/1/data/vchan"
#define CHUNK (64 << 10)
#define LARGEST (1 << 20)

static char data[LARGEST];
static struct libxenvchan *chan;

/* One job, as it goes to the server. */
struct job {
    uint32_t is_trip, size;
    uint64_t count;
};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void all(int done, int size)
{
    if (done != size)
        fail("libxenvchan");
}

static void serve(int ring)
{
    struct job job;

    chan = libxenvchan_server_init(NULL, 0, PATH, ring, ring);
    if (!chan)
        fail("server");
    chan->blocking = 1;
    while (libxenvchan_is_open(chan) == 2)
        libxenvchan_wait(chan);
    for (;;) {
        all(libxenvchan_recv(chan, &job, sizeof(job)), sizeof(job));
        if (!job.count)
            return;
        if (job.is_trip) {
            for (uint64_t i = 0; i < job.count; i++) {
                all(libxenvchan_recv(chan, data, job.size), job.size);
                all(libxenvchan_send(chan, data, job.size), job.size);
            }
            continue;
        }
        for (uint64_t left = job.size * job.count; left;) {
            int done = libxenvchan_read(chan, data, CHUNK);

            if (done <= 0)
                fail("read");
            left -= done;
        }
        all(libxenvchan_send(chan, data, 1), 1);
    }
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static double measure(struct job job)
{
    double begun = now();

    all(libxenvchan_send(chan, &job, sizeof(job)), sizeof(job));
    for (uint64_t i = 0; i < job.count; i++) {
        if (!job.is_trip) {
            all(libxenvchan_write(chan, data, job.size), job.size);
            continue;
        }
        all(libxenvchan_send(chan, data, job.size), job.size);
        all(libxenvchan_recv(chan, data, job.size), job.size);
    }
    if (!job.is_trip)
        all(libxenvchan_recv(chan, data, 1), 1);
    return now() - begun;
}

int main(int argc, char **argv)
{
    struct job job = { 0 };
    unsigned long long count;
    char kind[16];

    memset(data, 0x5a, sizeof(data));
    if (argc == 3 && !strcmp(argv[1], "server")) {
        serve(atoi(argv[2]));
        return 0;
    }
    if (argc != 2 || strcmp(argv[1], "client")) {
        fprintf(stderr, "usage: native-c server RING | native-c client\n");
        return 2;
    }
    for (int tries = 0; !(chan = libxenvchan_client_init(NULL, 1, PATH)); tries++) {
        if (tries == 5000)
            fail("there is no server");
        usleep(1000);
    }
    chan->blocking = 1;
    while (scanf("%15s %u %llu", kind, &job.size, &count) == 3) {
        job.is_trip = !strcmp(kind, "trip");
        job.count = count;
        printf("%.9f\n", measure(job));
    }
    job.count = 0;
    all(libxenvchan_send(chan, &job, sizeof(job)), sizeof(job));
    return 0;
}
