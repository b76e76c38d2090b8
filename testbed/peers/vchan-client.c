/*
 * A vchan client on Debian's libxenvchan, to see that our guest serves others
 * as it serves our own tool: copies standard input to the channel and the
 * channel to standard output, and ends once as much came back as was sent.
 *
 *   vchan-client DOMID PATH      PATH is below /local/domain/DOMID
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

static void fail(int code, const char *what)
{
    fprintf(stderr, "vchan-client: %s (sent %llu, received %llu)\n", what,
            (unsigned long long)sent, (unsigned long long)received);
    exit(code);
}

/* Fills an empty piece from standard input; false at its end. */
static int fill(struct piece *piece)
{
    ssize_t count = read(STDIN_FILENO, piece->data, sizeof(piece->data));

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
    count = libxenvchan_write(chan, piece->data + piece->from, piece->to - piece->from);
    if (count < 0)
        fail(4, "cannot write to the channel");
    piece->from += count;
    sent += count;
    return count > 0;
}

/* Moves what has come to standard output; true if something had. */
static int receive_some(struct libxenvchan *chan)
{
    static char data[65536];
    int count = libxenvchan_read(chan, data, sizeof(data)), at = 0;

    if (count < 0)
        fail(4, "cannot read from the channel");
    received += count;
    while (at < count) {
        ssize_t done = write(STDOUT_FILENO, data + at, count - at);

        if (done < 0)
            fail(1, "cannot write to standard output");
        at += done;
    }
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

int main(int argc, char **argv)
{
    struct libxenvchan *chan;
    char path[256];

    if (argc != 3) {
        fprintf(stderr, "usage: vchan-client DOMID PATH\n");
        return 2;
    }
    snprintf(path, sizeof(path), "/local/domain/%s/%s", argv[1], argv[2]);
    chan = libxenvchan_client_init(NULL, atoi(argv[1]), path);
    if (!chan)
        fail(3, "no server there");
    chan->blocking = 0;
    copy(chan);
    libxenvchan_close(chan);
    return 0;
}
