/*
 * A vchan echo server on Debian's libxenvchan, to be met by our clients and to
 * be measured against our guest: sends back in capitals what comes, to one
 * client after another.
 *
 *   vchan-echo [-p] [-s SEED] [-l BYTES] [-r BYTES] CLIENT PATH
 *
 * CLIENT is the domain that may connect; PATH is where the channel is published
 * in xenstore, absolute or below this domain's folder. -l and -r are the rings
 * to and from the server (libxenvchan rounds them up). With -p it takes and
 * gives packets, each as large as what has come, instead of a stream. With -s it
 * reads, writes and takes packets of random sizes.
 */
#include <libxenvchan.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char data[1 << 20];
static int random_sizes;

/* `most`, or less. */
static int size(int most)
{
    return random_sizes ? 1 + rand() % most : most;
}

static void capitalize(char *bytes, int count)
{
    for (int i = 0; i < count; i++)
        bytes[i] -= (unsigned char)(bytes[i] - 'a') < 26 ? 'a' - 'A' : 0;
}

/* What has come, at least a byte of it; negative when the client is gone. */
static int take(struct libxenvchan *chan, int packets)
{
    int ready;

    if (!packets)
        return libxenvchan_read(chan, data, size(sizeof(data)));
    while ((ready = libxenvchan_data_ready(chan)) == 0) {
        if (libxenvchan_is_open(chan) != 1 || libxenvchan_wait(chan) < 0)
            return -1;
    }
    return libxenvchan_recv(chan, data, size(ready < 1 << chan->write.order ? ready : 1 << chan->write.order));
}

/* Gives it back; negative when the client is gone. */
static int give(struct libxenvchan *chan, int packets, int count)
{
    int at = 0, done;

    if (packets)
        return libxenvchan_send(chan, data, count);
    for (; at < count; at += done) {
        done = libxenvchan_write(chan, data + at, size(count - at));
        if (done <= 0)
            return -1;
    }
    return at;
}

/* Serves the client that has come; returns how many bytes it got back. */
static unsigned long long serve(struct libxenvchan *chan, int packets)
{
    unsigned long long echoed = 0;
    int count;

    while ((count = take(chan, packets)) > 0) {
        capitalize(data, count);
        if (give(chan, packets, count) != count)
            break;
        echoed += count;
    }
    return echoed;
}

int main(int argc, char **argv)
{
    int packets = 0, left = 8192, right = 8192, option;

    while ((option = getopt(argc, argv, "ps:l:r:")) != -1) {
        switch (option) {
        case 'p': packets = 1; break;
        case 's': srand(atoi(optarg)); random_sizes = 1; break;
        case 'l': left = atoi(optarg); break;
        case 'r': right = atoi(optarg); break;
        default: return 2;
        }
    }
    if (argc - optind != 2) {
        fprintf(stderr, "usage: vchan-echo [-p] [-s SEED] [-l BYTES] [-r BYTES] CLIENT PATH\n");
        return 2;
    }
    for (;;) {
        struct libxenvchan *chan =
            libxenvchan_server_init(NULL, atoi(argv[optind]), argv[optind + 1], left, right);
        unsigned long long echoed;

        if (!chan) {
            fprintf(stderr, "vchan-echo: no channel can be made\n");
            return 1;
        }
        chan->blocking = 1;
        printf("vchan-echo: ready, orders %d and %d\n", chan->read.order, chan->write.order);
        fflush(stdout);
        while (libxenvchan_is_open(chan) == 2)
            libxenvchan_wait(chan);
        printf("vchan-echo: client connected\n");
        echoed = serve(chan, packets);
        printf("vchan-echo: client left, %llu bytes echoed\n", echoed);
        fflush(stdout);
        libxenvchan_close(chan);
    }
}
