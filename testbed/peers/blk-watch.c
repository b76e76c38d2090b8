/*
 * Reads what a guest prints while it measures a disk, and adds to each
 * measurement the CPU time that the guest and dom0 used for it, as Xen counts
 * it. It sleeps in between, so that it costs dom0 next to nothing.
 *
 *   blk-watch DOMID LOG
 *
 * LOG is the guest's console log. A line with {"test": is the result of a
 * measurement, which began with the last "blk-bench: begin" or with the result
 * before; what stands before the brace is dropped. "blk-bench: end" ends this
 * program. So does, with exit code 1, a line with "FAILED" or "PANIC", and that
 * the domain is gone.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>
#include <xenctrl.h>

static xc_interface *xc;
static uint32_t guest;
static uint64_t guest_before, dom0_before;

static uint64_t used(uint32_t domid)
{
    xc_domaininfo_t info;

    if (xc_domain_getinfolist(xc, domid, 1, &info) != 1 || info.domain != domid) {
        fprintf(stderr, "blk-watch: there is no domain %u\n", domid);
        exit(1);
    }
    return info.cpu_time;
}

static void mark(void)
{
    guest_before = used(guest);
    dom0_before = used(0);
}

static void line(char *text)
{
    char *result = strstr(text, "{\"test\":"), *brace = strrchr(text, '}');

    if (strstr(text, "blk-bench: begin")) {
        mark();
    } else if (result && brace) {
        double of_guest = (used(guest) - guest_before) * 1e-6, of_dom0 = (used(0) - dom0_before) * 1e-6;

        *brace = 0;
        printf("%s,\"guest_cpu_ms\":%.2f,\"dom0_cpu_ms\":%.2f}\n", result, of_guest, of_dom0);
        mark();
    } else if (strstr(text, "blk-bench: end")) {
        exit(0);
    } else if (strstr(text, "FAILED") || strstr(text, "PANIC")) {
        fprintf(stderr, "%s\n", text);
        exit(1);
    }
}

/* Waits for more in the log; now and then looks whether there is somebody left to write it. */
static void wait_for_more(int changes)
{
    struct pollfd fd = { .fd = changes, .events = POLLIN };
    char events[4096];

    while (poll(&fd, 1, 2000) == 0)
        used(guest);
    if (read(changes, events, sizeof events) < 0) {
        perror("blk-watch");
        exit(1);
    }
}

int main(int argc, char **argv)
{
    static char text[65536];
    size_t length = 0;
    int log, changes;

    if (argc != 3) {
        fprintf(stderr, "usage: blk-watch DOMID LOG\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    guest = atoi(argv[1]);
    xc = xc_interface_open(NULL, NULL, 0);
    log = open(argv[2], O_RDONLY);
    changes = inotify_init();
    if (!xc || log < 0 || changes < 0 || inotify_add_watch(changes, argv[2], IN_MODIFY) < 0) {
        perror("blk-watch");
        return 1;
    }
    for (;;) {
        ssize_t got = read(log, text + length, sizeof text - 1 - length);
        char *from = text, *end;

        if (got < 0) {
            perror("blk-watch");
            return 1;
        }
        length += got;
        text[length] = 0;
        while ((end = strchr(from, '\n'))) {
            *end = 0;
            line(from);
            from = end + 1;
        }
        length = text + length - from;
        memmove(text, from, length);
        if (length == sizeof text - 1)
            length = 0;
        if (!got)
            wait_for_more(changes);
    }
}
