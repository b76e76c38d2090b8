/*
 * A vchan client on Debian's libxenvchan, to see that our guest serves others
 * as it serves our own tool: copies standard input to the channel and the
 * channel to standard output, and ends once as much came back as was sent.
 *
 *   vchan-client [-p] [-s SEED] DOMID PATH      PATH is below /local/domain/DOMID
 *
 * With -p it sends packets and takes each one back before the next; else it is a
 * stream in both directions at once. With -s sizes of packets, writes and reads
 * are random.
 *
 * Exit codes: 0 all came back, 2 usage, 3 no server, 4 the peer is gone, 1 other.
 */
#include <errno.h>
#include <libxenvchan.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Bytes on their way from one descriptor to the other. */
struct piece {
    char data[65536];
    size_t from, to;
};

static uint64_t sent, received;
static int random_sizes;

static void fail(int code, const char *what)
{
    fprintf(stderr, "vchan-client: %s (sent %llu, received %llu)\n", what,
            (unsigned long long)sent, (unsigned long long)received);
    exit(code);
}

/* How much to move at once when `most` could be. */
static size_t part(size_t most)
{
    return random_sizes ? 1 + rand() % most : most;
}

/* Fills an empty piece from standard input; false at its end. */
static int fill(struct piece *piece)
{
    ssize_t count = read(STDIN_FILENO, piece->data, part(sizeof(piece->data)));

    if (count < 0)
        fail(1, "cannot read standard input");
    piece->from = 0;
    piece->to = count;
    return count > 0;
}

/* Moves what fits into the channel; true if something did. */
static int send_some(struct libxenvchan *chan, struct piece *piece)
{
    int count;

    if (piece->from == piece->to)
        return 0;
    count = libxenvchan_write(chan, piece->data + piece->from, part(piece->to - piece->from));
    if (count < 0)
        fail(4, "cannot write to the channel");
    piece->from += count;
    sent += count;
    return count > 0;
}

static void put(const char *data, int count)
{
    int at = 0;

    received += count;
    while (at < count) {
        ssize_t done = write(STDOUT_FILENO, data + at, count - at);

        if (done < 0)
            fail(1, "cannot write to standard output");
        at += done;
    }
}

/* Moves what has come to standard output; true if something had. */
static int receive_some(struct libxenvchan *chan)
{
    static char data[65536];
    int count = libxenvchan_read(chan, data, part(sizeof(data)));

    if (count < 0)
        fail(4, "cannot read from the channel");
    put(data, count);
    return count > 0;
}

static void copy(struct libxenvchan *chan)
{
    static struct piece piece;
    int open = 1;

    for (;;) {
        int moved = send_some(chan, &piece) | receive_some(chan);
        int empty = piece.from == piece.to;
        struct pollfd polled[2] = {
            { .fd = libxenvchan_fd_for_select(chan), .events = POLLIN },
            { .fd = open && empty ? STDIN_FILENO : -1, .events = POLLIN },
        };

        if (!open && empty && received == sent)
            return;
        /* After a move that emptied or filled a ring nobody will wake us. */
        if (poll(polled, 2, moved ? 0 : -1) < 0 && errno != EINTR)
            fail(1, "cannot poll");
        if (polled[0].revents)
            libxenvchan_wait(chan);
        if (polled[1].revents)
            open = fill(&piece);
    }
}

static void copy_packets(struct libxenvchan *chan)
{
    static char data[65536];
    int order = chan->read.order < chan->write.order ? chan->read.order : chan->write.order;
    size_t most = order < 16 ? (size_t)1 << order : sizeof(data);
    ssize_t count;

    while ((count = read(STDIN_FILENO, data, part(most))) > 0) {
        if (libxenvchan_send(chan, data, count) != count)
            fail(4, "cannot send a packet");
        sent += count;
        if (libxenvchan_recv(chan, data, count) != count)
            fail(4, "cannot receive a packet");
        put(data, count);
    }
    if (count < 0)
        fail(1, "cannot read standard input");
}

int main(int argc, char **argv)
{
    struct libxenvchan *chan;
    int packets = 0, option;
    char path[256];

    while ((option = getopt(argc, argv, "ps:")) != -1) {
        switch (option) {
        case 'p': packets = 1; break;
        case 's': random_sizes = 1; srand(atoi(optarg)); break;
        default: return 2;
        }
    }
    if (argc - optind != 2) {
        fprintf(stderr, "usage: vchan-client [-p] [-s SEED] DOMID PATH\n");
        return 2;
    }
    snprintf(path, sizeof(path), "/local/domain/%s/%s", argv[optind], argv[optind + 1]);
    chan = libxenvchan_client_init(NULL, atoi(argv[optind]), path);
    if (!chan)
        fail(3, "no server there");
    chan->blocking = packets;
    if (packets)
        copy_packets(chan);
    else
        copy(chan);
    libxenvchan_close(chan);
    return 0;
}
