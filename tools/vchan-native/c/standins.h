/*
 * The memory that the two processes share, as tools/vchan-native/src/machine.rs lays it out: a file of
 * pages, whose first has the number of the next free page, and the two keys of the channel, each
 * plus one.
 */
#include <stdint.h>

struct machine {
    uint32_t next_page;
    uint32_t ring_ref;
    uint32_t event_channel;
};
