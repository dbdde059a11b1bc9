/*
 * Makes the disk fail for the files below FAULT_ROOT, for as long as FAULT_FILE says so.
 *
 * Preloaded, it stands before the calls of the C library that read, write, flush or make files.
 * FAULT_FILE holds words such as `write ENOSPC` or `sync EIO`; where it is empty or missing, all
 * calls go through. Memory maps are not seen.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* The error that a kind of call is to fail with now, or 0. */
static int fault(const char *kind) {
    const char *path = getenv("FAULT_FILE");
    char said[256];
    int fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    long length = syscall(SYS_read, fd, said, sizeof said - 1);
    syscall(SYS_close, fd);
    if (length <= 0)
        return 0;
    said[length] = 0;
    char *found = strstr(said, kind);
    if (!found)
        return 0;
    found += strlen(kind) + 1;
    return !strncmp(found, "ENOSPC", 6) ? ENOSPC : !strncmp(found, "EIO", 3) ? EIO : EMFILE;
}

static int below(const char *path) {
    const char *root = getenv("FAULT_ROOT");
    return root && !strncmp(path, root, strlen(root));
}

static int ours(int fd) {
    char link[64], path[PATH_MAX];
    int errno_before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = errno_before;
    if (length <= 0)
        return 0;
    path[length] = 0;
    return below(path);
}

#define FAIL_IF(kind, fd)                      \
    do {                                       \
        int wrong = ours(fd) ? fault(kind) : 0; \
        if (wrong) {                           \
            errno = wrong;                     \
            return -1;                         \
        }                                      \
    } while (0)

ssize_t write(int fd, const void *data, size_t size) {
    FAIL_IF("write", fd);
    return REAL(write)(fd, data, size);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    FAIL_IF("write", fd);
    return REAL(writev)(fd, parts, count);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    FAIL_IF("write", fd);
    return REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    FAIL_IF("write", fd);
    return REAL(pwrite64)(fd, data, size, at);
}
int ftruncate64(int fd, off64_t size) {
    FAIL_IF("write", fd);
    return REAL(ftruncate64)(fd, size);
}
ssize_t read(int fd, void *data, size_t size) {
    FAIL_IF("read", fd);
    return REAL(read)(fd, data, size);
}
ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
    FAIL_IF("read", fd);
    return REAL(pread64)(fd, data, size, at);
}
int fsync(int fd) {
    FAIL_IF("sync", fd);
    return REAL(fsync)(fd);
}
int fdatasync(int fd) {
    FAIL_IF("sync", fd);
    return REAL(fdatasync)(fd);
}

#define OPENED(function, ...)                                                      \
    mode_t mode = 0;                                                               \
    if (flags & (O_CREAT | O_TMPFILE)) {                                           \
        va_list rest;                                                              \
        va_start(rest, flags);                                                     \
        mode = va_arg(rest, mode_t);                                               \
        va_end(rest);                                                              \
        int wrong = below(path) && access(path, F_OK) ? fault("create") : 0;       \
        if (wrong) {                                                               \
            errno = wrong;                                                         \
            return -1;                                                             \
        }                                                                          \
    }                                                                              \
    return REAL(function)(__VA_ARGS__, mode)

int open(const char *path, int flags, ...) { OPENED(open, path, flags); }
int open64(const char *path, int flags, ...) { OPENED(open64, path, flags); }
int openat(int at, const char *path, int flags, ...) { OPENED(openat, at, path, flags); }
int openat64(int at, const char *path, int flags, ...) { OPENED(openat64, at, path, flags); }
int mkdir(const char *path, mode_t mode) {
    int wrong = below(path) ? fault("create") : 0;
    if (wrong) {
        errno = wrong;
        return -1;
    }
    return REAL(mkdir)(path, mode);
}
