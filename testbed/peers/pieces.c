/*
 * Runs a command whose standard input comes, and whose standard output goes, in
 * pieces of random sizes.
 *
 *   pieces SEED COMMAND...
 *
 * Exit code: that of the command, 1 if it was killed, 2 usage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGEST 20000

static void copy(int from, int to)
{
    static char data[LARGEST];
    ssize_t count;

    while ((count = read(from, data, 1 + rand() % LARGEST)) > 0) {
        for (ssize_t at = 0, done; at < count; at += done) {
            size_t piece = 1 + rand() % (count - at);

            done = write(to, data + at, piece);
            if (done < 0)
                exit(1);
        }
    }
}

/* Two ends that only this process and those it starts with them have. */
static void join(int ends[2])
{
    if (pipe(ends) < 0)
        exit(1);
}

int main(int argc, char **argv)
{
    int in[2], out[2], status;
    pid_t command;

    if (argc < 3) {
        fprintf(stderr, "usage: pieces SEED COMMAND...\n");
        return 2;
    }
    join(in);
    join(out);
    if (!fork()) {
        close(in[0]);
        close(out[0]);
        close(out[1]);
        /* Who reads the output waits for its end only until the command has ended. */
        close(STDOUT_FILENO);
        srand(atoi(argv[1]));
        copy(STDIN_FILENO, in[1]);
        return 0;
    }
    command = fork();
    if (!command) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        close(in[0]);
        close(in[1]);
        close(out[0]);
        close(out[1]);
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    close(in[0]);
    close(in[1]);
    close(out[1]);
    srand(atoi(argv[1]) + 1);
    copy(out[0], STDOUT_FILENO);
    waitpid(command, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
