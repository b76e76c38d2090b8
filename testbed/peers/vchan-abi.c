/*
 * Compares the structures of this release's libxenvchan.h with those of our
 * libxenvchan (crates/libxenvchan/src/layout.rs, whose test reads the numbers
 * from here). There is nothing to run: it compiles, or it does not.
 */
#include <libxenvchan.h>
#include <stddef.h>
#include <stdio.h>

#define IS(what, number) _Static_assert((what) == (number), #what " is not " #number)

IS(sizeof(struct libxenvchan_ring), 24);
IS(offsetof(struct libxenvchan_ring, shr), 0);
IS(offsetof(struct libxenvchan_ring, buffer), 8);
IS(offsetof(struct libxenvchan_ring, order), 16);
IS(offsetof(struct libxenvchan, gntshr), 0);
IS(offsetof(struct libxenvchan, gnttab), 0);
IS(offsetof(struct libxenvchan, ring), 8);
IS(offsetof(struct libxenvchan, event), 16);
IS(offsetof(struct libxenvchan, event_port), 24);
/* The flags, which have no offset in C: the word behind the port. */
IS(offsetof(struct libxenvchan, event_port) + 4, 28);
IS(offsetof(struct libxenvchan, read), 32);
IS(offsetof(struct libxenvchan, write), 56);
/* xs_path lies there; Xen 4.14 has none, and ends before it. */
IS(offsetof(struct libxenvchan, write) + sizeof(struct libxenvchan_ring), 80);
_Static_assert(sizeof(struct libxenvchan) == 80 || sizeof(struct libxenvchan) == 88, "its size");

/* The flags' bits, which only a program can tell. */
static int bits(void)
{
    union {
        struct libxenvchan chan;
        uint32_t words[sizeof(struct libxenvchan) / 4];
    } all = { .words = { 0 } };
    int wrong = 0;

    all.chan.is_server = 1;
    wrong |= all.words[7] != 1;
    all.chan.server_persist = 1;
    wrong |= all.words[7] != 3;
    all.chan.blocking = 1;
    return wrong | (all.words[7] != 7);
}

int main(void)
{
    if (bits())
        return 1;
    printf("vchan-abi: the header is as ours\n");
    return 0;
}
