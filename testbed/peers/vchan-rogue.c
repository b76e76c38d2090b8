/*
 * A vchan server that lies: offers a channel as any server does, but for what no
 * honest one would write into xenstore or into the shared page.
 *
 *   vchan-rogue CLIENT PATH ATTACK     PATH is absolute, in this domain's folder
 *
 * What a client finds before it connects:
 *   left-9, right-21         a ring of an order that there is not
 *   both-10, both-11, 20-10  rings that overlap
 *   srv-live, cli-live       a live byte of 7
 *   gone, busy               the server has left; another client is there
 *   bad-grants, bad-page     grants that there are not
 *   bad-port                 a port that there is not
 *   key-text, key-huge, key-negative
 *                            a key that is no number, or a number of no grant
 *   full                     more bytes in the ring than it holds
 *
 * What happens once it is connected and has sent something:
 *   prod-beyond, prod-far, prod-back, cons-ahead, cons-back
 *                            an index that cannot be
 *   live                     the server's live byte becomes 7
 *   vanish                   the server is gone without a word
 *
 * What must change nothing, so that the echo in capitals still works:
 *   own                      the client's own indices
 *   orders                   the sizes of the rings
 *   notify                   all bits of both notify bytes, all the time, but those of half-close
 *   storm                    100000 events without any data
 *   deaf                     nothing is ever read, and so nothing answered
 *
 * It prints a line when the keys are there, serves one client, and ends once that
 * has left. Exit codes: 0 the client left, 1 it did not, 2 usage, 3 no channel.
 * The layout is that of Xen's public header io/libxenvchan.h.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>
#include <xen/io/libxenvchan.h>

#define PATIENCE 60
#define SIZE 4096u

static volatile struct vchan_interface *page;
static volatile char *left, *right;
static xenevtchn_handle *events;
static int port;
static const char *attack;

static void fail(int code, const char *what)
{
    fprintf(stderr, "vchan-rogue: %s: %s\n", attack, what);
    exit(code);
}

static int is(const char *name)
{
    return !strcmp(attack, name);
}

static void *share(xengntshr_handle *grants, uint32_t client, uint32_t *ref)
{
    void *at = xengntshr_share_pages(grants, client, 1, ref, 1);

    if (!at)
        fail(3, "cannot share a page");
    memset(at, 0, SIZE);
    return at;
}

static void publish(const char *path, const char *key, const char *value, uint32_t client)
{
    struct xs_handle *store = xs_open(0);
    struct xs_permissions readers[2] = { { .perms = XS_PERM_NONE }, { .id = client, .perms = XS_PERM_READ } };
    char full[256];

    snprintf(full, sizeof(full), "%s/%s", path, key);
    if (!store || sscanf(path, "/local/domain/%u/", &readers[0].id) != 1)
        fail(3, "cannot open xenstore, or the path is not in a domain's folder");
    if (!xs_write(store, XBT_NULL, full, value, strlen(value)) || !xs_set_permissions(store, XBT_NULL, full, readers, 2))
        fail(3, "cannot write the keys");
    xs_close(store);
}

static void offer(uint32_t client, const char *path)
{
    xengntshr_handle *grants = xengntshr_open(NULL, 0);
    uint32_t of_page, of_rings[2];
    char value[32];

    events = xenevtchn_open(NULL, 0);
    if (!grants || !events)
        fail(3, "this is not a Xen domain");
    port = xenevtchn_bind_unbound_port(events, client);
    page = share(grants, client, &of_page);
    left = share(grants, client, &of_rings[0]);
    right = share(grants, client, &of_rings[1]);
    if (port < 0)
        fail(3, "cannot open a port");
    page->left_order = is("left-9") ? 9 : is("both-10") ? 10 : is("both-11") ? 11 : is("20-10") ? 20 : 12;
    page->right_order = is("right-21") ? 21 : is("both-10") || is("20-10") ? 10 : is("both-11") ? 11 : 12;
    page->srv_live = is("srv-live") ? 7 : is("gone") ? 0 : 1;
    page->cli_live = is("cli-live") ? 7 : is("busy") ? 1 : 2;
    page->cli_notify = VCHAN_NOTIFY_WRITE;
    page->right.prod = is("full") ? SIZE + 1 : 0;
    page->grants[0] = of_rings[0];
    page->grants[1] = is("bad-grants") ? 0x7fffffff : of_rings[1];

    snprintf(value, sizeof(value), "%u", is("bad-port") ? 4000 : port);
    publish(path, "event-channel", value, client);
    snprintf(value, sizeof(value), "%s%u%s", is("key-negative") ? "-" : "", is("bad-page") ? 30000 : of_page,
             is("key-text") ? "x" : is("key-huge") ? "00000000000" : "");
    publish(path, "ring-ref", value, client);
    printf("vchan-rogue: %s: ready\n", attack);
    fflush(stdout);
}

static void tell(void)
{
    __sync_synchronize();
    xenevtchn_notify(events, port);
}

/* Waits until `done`, without relying on events. */
#define UNTIL(done, what)                                                   \
    do {                                                                    \
        time_t until = time(NULL) + PATIENCE;                               \
        while (!(done)) {                                                   \
            struct timespec pause = { 0, 1000000 };                         \
                                                                            \
            if (time(NULL) > until)                                         \
                fail(1, what);                                              \
            nanosleep(&pause, NULL);                                        \
        }                                                                   \
    } while (0)

/* Breaks the protocol, if that is what the attack is about. */
static int violate(void)
{
    if (is("prod-beyond"))
        page->right.prod = page->right.cons + SIZE + 1;
    else if (is("prod-far"))
        page->right.prod = page->right.cons + 0x80000000u;
    else if (is("prod-back"))
        page->right.prod = page->right.cons - 1;
    else if (is("cons-ahead"))
        page->left.cons = page->left.prod + 1;
    else if (is("cons-back"))
        page->left.cons = page->left.prod - SIZE - 1;
    else if (is("live"))
        page->srv_live = 7;
    else
        return 0;
    tell();
    return 1;
}

/* Disturbs, if that is what the attack is about. */
static void annoy(void)
{
    static int begun;

    /* Once, while the client has more to send, which puts it right; and so that this end does not overrun. */
    if (is("own") && !begun++) {
        page->left.prod -= 3;
        page->right.cons -= 1000;
    } else if (is("orders")) {
        page->left_order = page->right_order = 20;
    } else if (is("notify")) {
        page->cli_notify = page->srv_notify = 0x1f;
    } else if (is("storm")) {
        static int stormed;

        for (; stormed < 100000; stormed++)
            tell();
    }
}

/* Sends back in capitals what comes, by its own count of what was moved, until the client leaves. */
static void echo(void)
{
    uint32_t moved = 0;

    UNTIL(({
        /* Of what the page says, only what a client wrote last is believed: its own damage is behind it. */
        uint32_t ready = page->left.prod - moved, space = page->right.cons + SIZE - moved;
        uint32_t count = ready > SIZE || space > SIZE ? 0 : ready < space ? ready : space;

        for (uint32_t i = 0; i < count; i++) {
            char byte = left[(moved + i) % SIZE];

            right[(moved + i) % SIZE] = byte - ((unsigned char)(byte - 'a') < 26 ? 'a' - 'A' : 0);
        }
        moved += count;
        __sync_synchronize();
        page->left.cons = page->right.prod = moved;
        if (count)
            annoy();
        else
            /* Waits for more, as any server says that has answered everything. */
            __sync_or_and_fetch(&page->cli_notify, VCHAN_NOTIFY_WRITE);
        tell();
        page->cli_live == 0;
    }), "the client is still there");
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: vchan-rogue CLIENT PATH ATTACK\n");
        return 2;
    }
    attack = argv[3];
    offer(atoi(argv[1]), argv[2]);
    /* Who is lied to before it connects never comes; the wait for it costs nothing. */
    while (page->cli_live != 1 || !page->left.prod) {
        if (xenevtchn_pending(events) != port || xenevtchn_unmask(events, port) < 0)
            fail(1, "no events come");
    }
    if (is("vanish"))
        _exit(0);
    if (violate() || is("deaf"))
        UNTIL(page->cli_live == 0, "the client is still there");
    else
        echo();
    printf("vchan-rogue: %s: the client has left\n", attack);
    return 0;
}
