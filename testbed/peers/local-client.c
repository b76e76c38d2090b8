/*
 * A local program at the other side of `vchan proxy`: no vchan in it.
 *
 *   local-client unix PATH BYTES SEED      connects, sends random bytes, checks
 *   local-client tcp PORT BYTES SEED       that they come back in capitals, and
 *   local-client pty DEVICE BYTES SEED     leaves
 *   local-client server PORT|PATH          is such a server itself, on loopback
 *                                          or on a unix socket; PORT may have
 *                                          an address before it
 *
 * Pieces of writes and reads are of random sizes. With a seed of 0 it leaves in
 * the middle, without reading. Exit codes: 0 well, 1 not, 2 usage.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE 60000

static void fail(const char *what, unsigned long at)
{
    fprintf(stderr, "local-client: %s at byte %lu\n", what, at);
    exit(1);
}

static unsigned char capital(unsigned char byte)
{
    return byte - ((unsigned char)(byte - 'a') < 26 ? 'a' - 'A' : 0);
}

static struct sockaddr_in at_port(const char *port)
{
    const char *colon = strchr(port, ':');
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(colon ? colon + 1 : port)) };
    char text[16] = "127.0.0.1";

    if (colon && colon - port < (long)sizeof(text))
        snprintf(text, sizeof(text), "%.*s", (int)(colon - port), port);
    inet_pton(AF_INET, text, &address.sin_addr);
    return address;
}

static struct sockaddr_un at_path(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
    return address;
}

static int open_local(const char *kind, const char *where)
{
    struct sockaddr_un path = at_path(where);
    struct sockaddr_in tcp = at_port(where);
    int fd;

    if (!strcmp(kind, "pty")) {
        fd = open(where, O_RDWR | O_NOCTTY);
        if (fd < 0)
            fail("cannot open the terminal", 0);
        return fd;
    }
    if (!strcmp(kind, "unix")) {
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&path, sizeof(path)) < 0)
            fail("cannot connect to the socket", 0);
        return fd;
    }
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&tcp, sizeof(tcp)) < 0)
        fail("cannot connect to the port", 0);
    return fd;
}

/* Sends and checks at the same time. */
static void exchange(int fd, const unsigned char *sent, unsigned long count)
{
    static unsigned char got[20000];
    unsigned long up = 0, down = 0;

    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (down < count) {
        struct pollfd polled = { .fd = fd, .events = POLLIN | (up < count ? POLLOUT : 0) };

        if (poll(&polled, 1, PATIENCE) <= 0)
            fail("nothing moves", down);
        if (polled.revents & POLLOUT) {
            unsigned long piece = 1 + rand() % 20000;
            ssize_t done = write(fd, sent + up, piece < count - up ? piece : count - up);

            up += done > 0 ? done : 0;
        }
        if (polled.revents & (POLLIN | POLLHUP)) {
            ssize_t done = read(fd, got, 1 + rand() % sizeof(got));

            if (done == 0)
                fail("it was closed too early", down);
            for (ssize_t i = 0; i < done; i++, down++) {
                if (down >= count || got[i] != capital(sent[down]))
                    fail("something else came back", down);
            }
        }
    }
}

static int listen_at(const char *where)
{
    struct sockaddr_in tcp = at_port(where);
    struct sockaddr_un path = at_path(where);
    int on = 1, local = *where == '/', fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM, 0);

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (local ? bind(fd, (struct sockaddr *)&path, sizeof(path)) : bind(fd, (struct sockaddr *)&tcp, sizeof(tcp)))
        fail("cannot bind", 0);
    if (listen(fd, 5) < 0)
        fail("cannot listen", 0);
    return fd;
}

static void serve(const char *where)
{
    static unsigned char data[20000];
    int listening = listen_at(where);

    printf("local-client: serving\n");
    fflush(stdout);
    for (;;) {
        int fd = accept(listening, NULL, NULL);
        ssize_t count;

        while ((count = read(fd, data, sizeof(data))) > 0) {
            for (ssize_t i = 0; i < count; i++)
                data[i] = capital(data[i]);
            for (ssize_t at = 0, done; at < count; at += done) {
                done = write(fd, data + at, count - at);
                if (done < 0)
                    break;
            }
        }
        close(fd);
    }
}

int main(int argc, char **argv)
{
    unsigned long count = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
    unsigned char *sent = malloc(count + 1);
    struct pollfd polled = { .events = POLLIN };

    if (argc == 3 && !strcmp(argv[1], "server"))
        serve(argv[2]);
    if (argc != 5) {
        fprintf(stderr, "usage: local-client unix|tcp|pty WHERE BYTES SEED | local-client server PORT|PATH\n");
        return 2;
    }
    srand(atoi(argv[4]));
    for (unsigned long i = 0; i < count; i++)
        sent[i] = rand() >> 8;
    polled.fd = open_local(argv[1], argv[2]);
    if (!atoi(argv[4]))
        return write(polled.fd, sent, count) > 0 ? 0 : 1;
    exchange(polled.fd, sent, count);
    if (!strcmp(argv[1], "pty"))
        return 0;
    /* What was sent last has come back, so that the other side has nothing more to say. */
    shutdown(polled.fd, SHUT_WR);
    if (poll(&polled, 1, PATIENCE) != 1 || read(polled.fd, sent, 1) != 0)
        fail("the other side does not close", count);
    return 0;
}
