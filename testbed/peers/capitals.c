/*
 * Copies standard input to standard output in capitals, each piece at once: an
 * echo for `vchan exec`, where tr would wait for more before it writes.
 */
#include <unistd.h>

int main(void)
{
    static char data[65536];
    ssize_t count;

    while ((count = read(STDIN_FILENO, data, sizeof(data))) > 0) {
        for (ssize_t i = 0; i < count; i++)
            data[i] -= (unsigned char)(data[i] - 'a') < 26 ? 'a' - 'A' : 0;
        for (ssize_t at = 0; at < count;) {
            ssize_t done = write(STDOUT_FILENO, data + at, count - at);

            if (done < 0)
                return 1;
            at += done;
        }
    }
    return count < 0;
}
