/*
 * Functions that the C library has had under these names or versions for some years only, so that
 * the shared library runs where its builder's is newer: Debian 11 has glibc 2.31.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HIDDEN __attribute__((visibility("hidden")))

/* Since 2.34 it is libc's own; before that it was libdl's, which has it to this day. */
extern void *old_dlsym(void *handle, const char *name);
__asm__(".symver old_dlsym, dlsym@GLIBC_2.2.5");

HIDDEN void *__wrap_dlsym(void *handle, const char *name)
{
    return old_dlsym(handle, name);
}

/* Functions since 2.33. On x86-64 the kernel's structure is that of the C library. */
HIDDEN int __wrap_stat64(const char *path, void *to)
{
    return syscall(SYS_newfstatat, AT_FDCWD, path, to, 0);
}

HIDDEN int __wrap_fstat64(int fd, void *to)
{
    return syscall(SYS_fstat, fd, to);
}
