/*
 * A vchan client that lies: connects to an echo server as any client does, then
 * writes what no honest client would into the shared page.
 *
 *   vchan-attack DOMID PATH ATTACK     PATH is below /local/domain/DOMID
 *
 * Attacks after which the server must close the channel:
 *   prod-beyond    more bytes than the ring holds
 *   prod-far       2^31 bytes
 *   prod-back      fewer bytes than before
 *   cons-ahead     more read than was written
 *   cons-back      bytes that were read come back
 *   live           the byte that says whether the client is there is 7
 *
 * Attacks that must change nothing, so that the echo still works:
 *   own            the server's own indices and live byte
 *   orders         the sizes of the rings
 *   notify         all bits of both notify bytes
 *   storm          100000 events without any data
 *
 * Exit codes: 0 the server did as it must, 1 it did not, 2 usage, 3 no connection.
 * The layout is that of Xen's public header io/libxenvchan.h.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>
#include <xen/io/libxenvchan.h>

#define PATIENCE 30

static volatile struct vchan_interface *page;
static volatile char *left, *right;
static uint32_t left_size, right_size;
static xenevtchn_handle *events;
static int port;

static void fail(int code, const char *what)
{
    fprintf(stderr, "vchan-attack: %s\n", what);
    exit(code);
}

static uint32_t number(struct xs_handle *store, const char *domid, const char *path, const char *key)
{
    char full[256], *value;

    snprintf(full, sizeof(full), "/local/domain/%s/%s/%s", domid, path, key);
    value = xs_read(store, XBT_NULL, full, NULL);
    if (!value)
        fail(3, "no server there");
    return strtoul(value, NULL, 10);
}

static void *map(xengnttab_handle *grants, uint32_t domid, uint32_t first, uint32_t count)
{
    uint32_t refs[256];
    void *at;

    for (uint32_t i = 0; i < count; i++)
        refs[i] = page->grants[first + i];
    at = xengnttab_map_domain_grant_refs(grants, count, domid, refs, PROT_READ | PROT_WRITE);
    if (!at)
        fail(3, "cannot map a ring");
    return at;
}

static void tell(void)
{
    __sync_synchronize();
    if (xenevtchn_notify(events, port) < 0)
        fail(1, "cannot send an event");
}

static void connect_to(const char *domid, const char *path)
{
    xengnttab_handle *grants = xengnttab_open(NULL, 0);
    struct xs_handle *store = xs_open(0);
    uint32_t server = atoi(domid);

    events = xenevtchn_open(NULL, 0);
    if (!grants || !store || !events)
        fail(3, "this is not dom0");
    port = xenevtchn_bind_interdomain(events, server, number(store, domid, path, "event-channel"));
    page = xengnttab_map_grant_ref(grants, server, number(store, domid, path, "ring-ref"), PROT_READ | PROT_WRITE);
    if (port < 0 || !page)
        fail(3, "cannot connect");
    if (page->left_order < 12 || page->right_order < 12 || page->cli_live != 2)
        fail(3, "the channel is not free, or its rings are smaller than a page");
    left_size = 1u << page->left_order;
    right_size = 1u << page->right_order;
    left = map(grants, server, 0, left_size >> 12);
    right = map(grants, server, left_size >> 12, right_size >> 12);
    page->cli_live = 1;
    page->srv_notify = VCHAN_NOTIFY_WRITE;
    tell();
}

/* Waits until `done`, sending events so that nothing depends on who asked for them. */
#define UNTIL(done, what)                                                   \
    do {                                                                    \
        time_t until = time(NULL) + PATIENCE;                               \
        while (!(done)) {                                                   \
            struct timespec pause = { 0, 1000000 };                         \
                                                                            \
            if (time(NULL) > until)                                         \
                fail(1, what);                                              \
            tell();                                                         \
            nanosleep(&pause, NULL);                                        \
        }                                                                   \
    } while (0)

/* Sends some bytes and takes the answer, by its own count of what was moved. */
static void echo(uint32_t count)
{
    static uint32_t sent;
    uint32_t i;

    for (i = 0; i < count; i++)
        left[(sent + i) % left_size] = 'a' + (sent + i) % 26;
    __sync_synchronize();
    page->left.prod = sent + count;
    tell();
    UNTIL(page->right.prod == sent + count, "no answer came");
    for (i = 0; i < count; i++) {
        if (right[(sent + i) % right_size] != 'A' + (char)((sent + i) % 26))
            fail(1, "the answer is wrong");
    }
    sent += count;
    page->right.cons = sent;
    tell();
    UNTIL(page->left.cons == sent, "the server's index does not follow");
}

/* Sends bytes to be answered: only then the server looks how far its answers were read. */
static void ask(void)
{
    __sync_synchronize();
    page->left.prod += 10;
}

static int attack(const char *name)
{
    int must_close = 1;

    if (!strcmp(name, "prod-beyond")) {
        page->left.prod = page->left.cons + left_size + 1;
    } else if (!strcmp(name, "prod-far")) {
        page->left.prod = page->left.cons + 0x80000000u;
    } else if (!strcmp(name, "prod-back")) {
        page->left.prod = page->left.cons - 50;
    } else if (!strcmp(name, "cons-ahead")) {
        page->right.cons = page->right.prod + 1;
        ask();
    } else if (!strcmp(name, "cons-back")) {
        page->right.cons = page->right.prod - right_size - 1;
        ask();
    } else if (!strcmp(name, "live")) {
        page->cli_live = 7;
    } else {
        must_close = 0;
        if (!strcmp(name, "own")) {
            page->left.cons += 1000;
            page->right.prod -= 7;
        } else if (!strcmp(name, "orders")) {
            page->left_order = page->right_order = 20;
        } else if (!strcmp(name, "notify")) {
            page->cli_notify = page->srv_notify = 0xff;
        } else if (!strcmp(name, "storm")) {
            for (int i = 0; i < 100000; i++)
                tell();
        } else {
            fail(2, "there is no such attack");
        }
    }
    tell();
    return must_close;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: vchan-attack DOMID PATH ATTACK\n");
        return 2;
    }
    connect_to(argv[1], argv[2]);
    echo(100);
    if (attack(argv[3])) {
        UNTIL(page->srv_live == 0, "the server has not closed the channel");
    } else {
        echo(100);
        echo(left_size < right_size ? left_size : right_size);
        page->cli_live = 0;
        tell();
    }
    return 0;
}
