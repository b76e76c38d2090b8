/*
 * Fills a disk with sectors that say what and where they are, and checks them:
 * a sector that was lost, misplaced, torn, or is an old one, is found and named.
 *
 *   blk-stamp write DEVICE [options]
 *   blk-stamp verify DEVICE [options]
 *
 *   -s SEED          which set of data (0)
 *   -g GENERATION    which version of it (0)
 *   -f FIRST         first sector, in units of 512 bytes (0)
 *   -n COUNT         how many sectors (all up to the end of the device)
 *   -b KIB           size of a read or write (256)
 *   -d               past the page cache (O_DIRECT)
 *
 * A sector of 512 bytes, every number little endian:
 *
 *     0  u64      the eight bytes "RINGSIDE"
 *     8  u64      its own number on the disk, in units of 512 bytes
 *    16  u64      generation
 *    24  u64      seed
 *    32  u64 x59  xorshift64* from the state
 *                 seed ^ sector * 0x9e3779b97f4a7c15 ^ generation * 0xd1b54a32d192ed03,
 *                 which is 0x9e3779b97f4a7c15 where that is zero
 *   504  u32      CRC-32C of bytes 0 to 503
 *   508  u32      0
 *
 * xorshift64*: x ^= x >> 12; x ^= x << 25; x ^= x >> 27; the number is x * 0x2545f4914f6cdd1d.
 * "blk-stamp sector -s SEED -g GENERATION -f NUMBER" prints one in hexadecimal.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR 512
#define WORDS (SECTOR / 8)
#define MAGIC 0x45444953474e4952 /* "RINGSIDE" */
#define GOLDEN 0x9e3779b97f4a7c15
#define SHOWN 5

static uint64_t seed, generation, first, count;
static uint32_t table[256];
static uint64_t bad;

static void fail(const char *format, ...)
{
    va_list args;

    fprintf(stderr, "blk-stamp: ");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
    exit(1);
}

static void fill_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;

        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0x82f63b78 : 0);
        table[byte] = value;
    }
}

static uint32_t crc32c(const void *data, size_t length)
{
    const unsigned char *bytes = data;
    uint32_t crc = ~0u;

    for (size_t at = 0; at < length; at++)
        crc = crc >> 8 ^ table[(crc ^ bytes[at]) & 0xff];
    return ~crc;
}

static void make(uint64_t *sector, uint64_t number)
{
    uint64_t state = seed ^ number * GOLDEN ^ generation * 0xd1b54a32d192ed03;

    if (!state)
        state = GOLDEN;
    sector[0] = MAGIC;
    sector[1] = number;
    sector[2] = generation;
    sector[3] = seed;
    for (int word = 4; word < WORDS - 1; word++) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        sector[word] = state * 0x2545f4914f6cdd1d;
    }
    sector[WORDS - 1] = crc32c(sector, SECTOR - 8);
}

/* Says what a sector is that is not what it should be. */
static void blame(const uint64_t *got, uint64_t number)
{
    uint64_t any = 0;

    if (++bad > SHOWN)
        return;
    printf("blk-stamp: sector %" PRIu64 ": ", number);
    for (int word = 0; word < WORDS; word++)
        any |= got[word];
    if (!any)
        printf("is all zeros\n");
    else if (got[0] != MAGIC)
        printf("has no stamp, begins with %016" PRIx64 "\n", got[0]);
    else if (got[WORDS - 1] != crc32c(got, SECTOR - 8))
        printf("is torn or damaged: its checksum is wrong (it says sector %" PRIu64 ", generation %" PRIu64 ")\n",
               got[1], got[2]);
    else if (got[1] != number)
        printf("is misplaced: belongs to sector %" PRIu64 "\n", got[1]);
    else if (got[3] != seed)
        printf("is of seed %" PRIu64 "\n", got[3]);
    else if (got[2] != generation)
        printf("is of generation %" PRIu64 "\n", got[2]);
    else
        printf("has another body under a good checksum\n");
}

static void check(const uint64_t *got, uint64_t number)
{
    uint64_t wanted[WORDS];

    make(wanted, number);
    if (memcmp(got, wanted, SECTOR))
        blame(got, number);
}

static void run(int device, const char *path, int writing, uint64_t *buffer, size_t size)
{
    for (uint64_t done = 0; done < count;) {
        uint64_t left = (count - done) * SECTOR, at = (first + done) * SECTOR;
        size_t bytes = left < size ? left : size;
        uint64_t sectors = bytes / SECTOR;
        ssize_t moved;

        for (uint64_t number = 0; writing && number < sectors; number++)
            make(buffer + number * WORDS, first + done + number);
        moved = writing ? pwrite(device, buffer, bytes, at) : pread(device, buffer, bytes, at);
        if (moved != (ssize_t)bytes)
            fail("%s: %s %zu bytes at sector %" PRIu64 ": %s", path, writing ? "writing" : "reading", bytes,
                 first + done, moved < 0 ? strerror(errno) : "only a part");
        for (uint64_t number = 0; !writing && number < sectors; number++)
            check(buffer + number * WORDS, first + done + number);
        done += sectors;
    }
    if (writing && fsync(device))
        fail("%s: fsync: %s", path, strerror(errno));
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 0);

    if (!*text || *end)
        fail("%s is no number", text);
    return value;
}

static void print_sector(void)
{
    uint64_t sector[WORDS];

    make(sector, first);
    for (int at = 0; at < SECTOR; at++)
        printf("%02x%s", ((unsigned char *)sector)[at], at % 32 == 31 ? "\n" : "");
}

int main(int argc, char **argv)
{
    const char *mode, *path;
    int writing, option, device, direct = 0;
    size_t size = 256 << 10;
    uint64_t *buffer, sectors;
    off_t end;

    fill_table();
    while ((option = getopt(argc, argv, "s:g:f:n:b:d")) != -1) {
        switch (option) {
        case 's': seed = number(optarg); break;
        case 'g': generation = number(optarg); break;
        case 'f': first = number(optarg); break;
        case 'n': count = number(optarg); break;
        case 'b': size = number(optarg) << 10; break;
        case 'd': direct = O_DIRECT; break;
        default: return 2;
        }
    }
    mode = optind < argc ? argv[optind] : "";
    if (!strcmp(mode, "sector")) {
        print_sector();
        return 0;
    }
    writing = !strcmp(mode, "write");
    if ((!writing && strcmp(mode, "verify")) || optind + 2 != argc || !size) {
        fprintf(stderr, "usage: blk-stamp write|verify DEVICE [-s SEED] [-g GENERATION] [-f FIRST] [-n COUNT] [-b KIB] [-d]\n");
        return 2;
    }
    path = argv[optind + 1];
    device = open(path, (writing ? O_WRONLY : O_RDONLY) | direct);
    if (device < 0 || (end = lseek(device, 0, SEEK_END)) < 0)
        fail("%s: %s", path, strerror(errno));
    sectors = end / SECTOR;
    if (first > sectors || count > sectors - first)
        fail("%s has only %" PRIu64 " sectors", path, sectors);
    if (!count)
        count = sectors - first;
    if (posix_memalign((void **)&buffer, 4096, size))
        fail("no memory");
    run(device, path, writing, buffer, size);
    if (bad) {
        printf("blk-stamp: %s: %" PRIu64 " of %" PRIu64 " sectors are not as written\n", path, bad, count);
        return 1;
    }
    printf("blk-stamp: %s: %s %" PRIu64 " sectors from %" PRIu64 ", seed %" PRIu64 ", generation %" PRIu64 "\n", path,
           writing ? "wrote" : "verified", count, first, seed, generation);
    return 0;
}
