/*
 * Stand-ins for libxengnttab, libxenevtchn and libxenstore, by which Xen's libxenvchan runs between two
 * processes of one machine: grants are pages of a shared file, an event is a count in an eventfd,
 * and xenstore has the two keys of one channel.
 *
 * The environment has the descriptors: NATIVE_MEMORY, the file; NATIVE_SERVER and NATIVE_CLIENT, the
 * eventfd that wakes each end.
 */
#define _GNU_SOURCE
#include "standins.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096
#define PORT 1

static int descriptor(const char *name)
{
    const char *value = getenv(name);

    if (!value) {
        fprintf(stderr, "standins: %s is not set\n", name);
        exit(1);
    }
    return atoi(value);
}

static void *pages(uint32_t first, uint32_t count, int prot)
{
    void *at = mmap(NULL, (size_t)count * PAGE, prot, MAP_SHARED, descriptor("NATIVE_MEMORY"), (off_t)first * PAGE);

    return at == MAP_FAILED ? NULL : at;
}

static struct machine *machine(void)
{
    static struct machine *shared;

    if (!shared)
        shared = pages(0, 1, PROT_READ | PROT_WRITE);
    return shared;
}

/* Grants. */

struct handle {
    int own, peer;
};

static void *make(void)
{
    return calloc(1, sizeof(struct handle));
}

static int end(void *handle)
{
    free(handle);
    return 0;
}

void *xengntshr_open(void *logger, unsigned flags)
{
    (void)logger;
    (void)flags;
    return make();
}

int xengntshr_close(void *handle)
{
    return end(handle);
}

void *xengntshr_share_pages(void *handle, uint32_t domid, int count, uint32_t *refs, int writable)
{
    uint32_t first = __atomic_fetch_add(&machine()->next_page, count, __ATOMIC_SEQ_CST);

    (void)handle;
    (void)domid;
    (void)writable;
    for (int i = 0; i < count; i++)
        refs[i] = first + i;
    return pages(first, count, PROT_READ | PROT_WRITE);
}

void *xengntshr_share_page_notify(void *handle, uint32_t domid, uint32_t *ref, int writable, uint32_t offset, uint32_t port)
{
    (void)offset;
    (void)port;
    return xengntshr_share_pages(handle, domid, 1, ref, writable);
}

int xengntshr_unshare(void *handle, void *start, uint32_t count)
{
    (void)handle;
    return munmap(start, (size_t)count * PAGE);
}

void *xengnttab_open(void *logger, unsigned flags)
{
    (void)logger;
    (void)flags;
    return make();
}

int xengnttab_close(void *handle)
{
    return end(handle);
}

void *xengnttab_map_domain_grant_refs(void *handle, uint32_t count, uint32_t domid, uint32_t *refs, int prot)
{
    (void)handle;
    (void)domid;
    return pages(refs[0], count, prot);
}

void *xengnttab_map_grant_ref_notify(void *handle, uint32_t domid, uint32_t ref, int prot, uint32_t offset, uint32_t port)
{
    (void)offset;
    (void)port;
    return xengnttab_map_domain_grant_refs(handle, 1, domid, &ref, prot);
}

int xengnttab_unmap(void *handle, void *start, uint32_t count)
{
    return xengntshr_unshare(handle, start, count);
}

/* Event channels. */

void *xenevtchn_open(void *logger, unsigned flags)
{
    (void)logger;
    (void)flags;
    return make();
}

int xenevtchn_close(void *handle)
{
    return end(handle);
}

int xenevtchn_fd(void *handle)
{
    return ((struct handle *)handle)->own;
}

static int bound(struct handle *handle, const char *own, const char *peer)
{
    handle->own = descriptor(own);
    handle->peer = descriptor(peer);
    return PORT;
}

int xenevtchn_bind_unbound_port(void *handle, uint32_t domid)
{
    (void)domid;
    return bound(handle, "NATIVE_SERVER", "NATIVE_CLIENT");
}

int xenevtchn_bind_interdomain(void *handle, uint32_t domid, uint32_t port)
{
    (void)domid;
    (void)port;
    return bound(handle, "NATIVE_CLIENT", "NATIVE_SERVER");
}

int xenevtchn_unbind(void *handle, uint32_t port)
{
    (void)handle;
    (void)port;
    return 0;
}

int xenevtchn_notify(void *handle, uint32_t port)
{
    uint64_t one = 1;

    (void)port;
    return write(((struct handle *)handle)->peer, &one, sizeof(one)) == sizeof(one) ? 0 : -1;
}

int xenevtchn_pending(void *handle)
{
    uint64_t events;

    return read(((struct handle *)handle)->own, &events, sizeof(events)) == sizeof(events) ? PORT : -1;
}

int xenevtchn_unmask(void *handle, uint32_t port)
{
    (void)handle;
    (void)port;
    return 0;
}

/* xenstore. */

void *xs_open(unsigned long flags)
{
    (void)flags;
    return make();
}

void xs_close(void *handle)
{
    end(handle);
}

static uint32_t *key(const char *path)
{
    const char *name = strrchr(path, '/');

    if (name && !strcmp(name, "/ring-ref"))
        return &machine()->ring_ref;
    if (name && !strcmp(name, "/event-channel"))
        return &machine()->event_channel;
    return NULL;
}

void *xs_read(void *handle, uint32_t transaction, const char *path, unsigned *length)
{
    /* A server asks for its domain's number, which nothing depends on here. */
    static uint32_t domid = 1 + 1;
    uint32_t *found = strcmp(path, "domid") ? key(path) : &domid;
    uint32_t value = found ? __atomic_load_n(found, __ATOMIC_SEQ_CST) : 0;
    char *text;

    (void)handle;
    (void)transaction;
    if (!value) {
        errno = ENOENT;
        return NULL;
    }
    if (asprintf(&text, "%u", value - 1) < 0)
        return NULL;
    if (length)
        *length = strlen(text);
    return text;
}

int xs_write(void *handle, uint32_t transaction, const char *path, const void *data, unsigned length)
{
    uint32_t *found = key(path);

    (void)handle;
    (void)transaction;
    (void)length;
    if (found)
        __atomic_store_n(found, strtoul(data, NULL, 10) + 1, __ATOMIC_SEQ_CST);
    return 1;
}

int xs_rm(void *handle, uint32_t transaction, const char *path)
{
    (void)handle;
    (void)transaction;
    (void)path;
    return 1;
}

int xs_set_permissions(void *handle, uint32_t transaction, const char *path, void *perms, unsigned count)
{
    (void)handle;
    (void)transaction;
    (void)path;
    (void)perms;
    (void)count;
    return 1;
}

uint32_t xs_transaction_start(void *handle)
{
    (void)handle;
    return 1;
}

int xs_transaction_end(void *handle, uint32_t transaction, int abort)
{
    (void)handle;
    (void)transaction;
    (void)abort;
    return 1;
}
