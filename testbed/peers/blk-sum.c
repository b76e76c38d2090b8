/*
 * Says the checksums of a disk, in the words of our guest's test "sum", and
 * writes down those of its sectors for that test to compare with.
 *
 *   blk-sum DEVICE [options]
 *
 *   -l NAME      what the lines call the disk (the device as it was given)
 *   -t TABLE     writes the checksum of each sector of 512 bytes there: 32 bits
 *                each, little endian, one behind the other
 *   -d           past the page cache (O_DIRECT)
 *
 * The checksum is CRC-32C. A line is for a part of the disk, of 1 MiB or, so
 * that there are at most 1024 parts, a power of two as many; the last line is
 * for the whole.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR 512
#define MIB (1 << 20)
#define PARTS 1024

static uint32_t bytes_table[256];

static void fail(const char *what, const char *path)
{
    fprintf(stderr, "blk-sum: %s: %s: %s\n", path, what, errno ? strerror(errno) : "only a part");
    exit(1);
}

static void fill_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;

        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0x82f63b78 : 0);
        bytes_table[byte] = value;
    }
}

/* The state after more bytes; it begins with all ones and is inverted at the end. */
static uint32_t crc32c(uint32_t state, const unsigned char *bytes, size_t length)
{
    for (size_t at = 0; at < length; at++)
        state = state >> 8 ^ bytes_table[(state ^ bytes[at]) & 0xff];
    return state;
}

static void *buffer(size_t size)
{
    void *memory;

    if (posix_memalign(&memory, 4096, size))
        fail("no memory", "");
    return memset(memory, 0, size);
}

int main(int argc, char **argv)
{
    const char *name = NULL, *table_path = NULL, *path;
    int option, device, table = -1, direct = 0;
    unsigned char *bytes = buffer(MIB);
    uint32_t *sums = buffer(MIB / SECTOR * sizeof *sums);
    uint32_t whole = ~0u, part = ~0u;
    uint64_t size, length = MIB;

    while ((option = getopt(argc, argv, "l:t:d")) != -1) {
        switch (option) {
        case 'l': name = optarg; break;
        case 't': table_path = optarg; break;
        case 'd': direct = O_DIRECT; break;
        default: return 2;
        }
    }
    if (optind + 1 != argc) {
        fprintf(stderr, "usage: blk-sum DEVICE [-l NAME] [-t TABLE] [-d]\n");
        return 2;
    }
    path = argv[optind];
    name = name ? name : path;
    fill_table();
    device = open(path, O_RDONLY | direct);
    if (device < 0 || (off_t)(size = lseek(device, 0, SEEK_END)) < 0)
        fail("cannot be opened", path);
    if (table_path && (table = open(table_path, O_WRONLY | direct)) < 0)
        fail("cannot be opened", table_path);
    while (size > length * PARTS)
        length *= 2;
    for (uint64_t at = 0; at < size; at += MIB) {
        size_t now = size - at < MIB ? size - at : MIB;
        /* Whole pages, which every disk takes. */
        size_t listed = (now / SECTOR * sizeof *sums + 4095) / 4096 * 4096;

        errno = 0;
        if (pread(device, bytes, now, at) != (ssize_t)now)
            fail("reading", path);
        for (size_t sector = 0; sector < now / SECTOR; sector++)
            sums[sector] = ~crc32c(~0u, bytes + sector * SECTOR, SECTOR);
        if (table >= 0 && pwrite(table, sums, listed, at / SECTOR * sizeof *sums) != (ssize_t)listed)
            fail("writing", table_path);
        whole = crc32c(whole, bytes, now);
        part = crc32c(part, bytes, now);
        if ((at + now) % length == 0 || at + now == size) {
            uint64_t first = (at + now - 1) / length * length;

            printf("{\"sum\":\"%s\",\"first\":%" PRIu64 ",\"sectors\":%" PRIu64 ",\"crc32c\":\"%08" PRIx32 "\"}\n", name,
                   first / SECTOR, (at + now - first) / SECTOR, ~part);
            part = ~0u;
        }
    }
    if (table >= 0 && fsync(table))
        fail("fsync", table_path);
    printf("{\"sum\":\"%s\",\"sectors\":%" PRIu64 ",\"crc32c\":\"%08" PRIx32 "\"}\n", name, size / SECTOR, ~whole);
    return 0;
}
