/*
 * Copies standard input to standard output in capitals, each piece at once: an
 * echo for `vchan exec`, where tr would wait for more before it writes.
 *
 *   capitals [SEED]
 *
 * With a seed it reads and writes in pieces of random sizes.
 */
#include <stdlib.h>
#include <unistd.h>

static int random_sizes;

/* `most`, or less. */
static size_t size(size_t most)
{
    return random_sizes ? 1 + rand() % most : most;
}

int main(int argc, char **argv)
{
    static char data[65536];
    ssize_t count;

    if (argc > 1) {
        random_sizes = 1;
        srand(atoi(argv[1]));
    }
    while ((count = read(STDIN_FILENO, data, size(sizeof(data)))) > 0) {
        for (ssize_t i = 0; i < count; i++)
            data[i] -= (unsigned char)(data[i] - 'a') < 26 ? 'a' - 'A' : 0;
        for (ssize_t at = 0; at < count;) {
            ssize_t done = write(STDOUT_FILENO, data + at, size(count - at));

            if (done < 0)
                return 1;
            at += done;
        }
    }
    return count < 0;
}
