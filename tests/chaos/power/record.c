/*
 * Records what a program does to the files below CHAOS_ROOT, for a replay up to any moment.
 *
 * Preloaded, it stands before the calls of the C library that change files or bring them to the
 * disk, and writes one record of each to CHAOS_RECORD. A change is recorded after it was made and
 * before its caller goes on; a flush is recorded at both its ends, since only what was written
 * before it began is on the disk when it has ended. Memory maps are not seen: SQLite's -shm, the
 * one file that is written through one, is of no use after a power loss.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, UNLINK, RENAME, MKDIR, FLUSH, FLUSHED };

struct head {
    uint64_t time, inode, offset, data;
    uint32_t kind, thread, path, other;
};

static char root[PATH_MAX];
static int log_fd = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    const char *from = getenv("CHAOS_ROOT"), *to = getenv("CHAOS_RECORD");
    if (!from || !to)
        return;
    strncpy(root, from, sizeof root - 1);
    log_fd = syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int below(const char *path) {
    size_t length = strlen(root);
    return log_fd >= 0 && !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

/* The path that a descriptor was opened by, if it is one of ours. */
static int of_descriptor(int fd, char *path) {
    if (log_fd < 0)
        return 0;
    char link[32] = "/proc/self/fd/", digits[12];
    int count = 0, left = fd;
    do
        digits[count++] = '0' + left % 10;
    while ((left /= 10) > 0);
    char *end = link + strlen(link);
    while (count)
        *end++ = digits[--count];
    *end = 0;
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return below(path);
}

static int absolute(int at, const char *path, char *found) {
    if (log_fd < 0)
        return 0;
    found[0] = 0;
    if (path[0] != '/') {
        if (at == AT_FDCWD) {
            if (!getcwd(found, PATH_MAX - strlen(path) - 2))
                return 0;
        } else if (!of_descriptor(at, found))
            return 0;
        strcat(found, "/");
    }
    strncat(found, path, PATH_MAX - strlen(found) - 1);
    return below(found);
}

static uint64_t inode_of(int fd) {
    struct stat found;
    return fstat(fd, &found) ? 0 : (uint64_t)found.st_ino;
}

static void note(uint32_t kind, uint64_t inode, uint64_t offset, const char *path,
                 const char *other, const struct iovec *data, int parts, uint64_t size) {
    int kept = errno;
    struct timespec now;
    struct head head = {0};
    struct iovec all[3 + 64];
    head.kind = kind;
    head.inode = inode;
    head.offset = offset;
    head.data = size;
    head.thread = (uint32_t)syscall(SYS_gettid);
    head.path = (uint32_t)strlen(path);
    head.other = (uint32_t)strlen(other);
    all[0] = (struct iovec){&head, sizeof head};
    all[1] = (struct iovec){(void *)path, head.path};
    all[2] = (struct iovec){(void *)other, head.other};
    int count = 3;
    for (int part = 0; part < parts && size && count < 67; part++) {
        size_t length = data[part].iov_len < size ? data[part].iov_len : size;
        all[count++] = (struct iovec){data[part].iov_base, length};
        size -= length;
    }
    pthread_mutex_lock(&lock);
    clock_gettime(CLOCK_MONOTONIC, &now);
    head.time = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    syscall(SYS_writev, log_fd, all, count);
    pthread_mutex_unlock(&lock);
    errno = kept;
}

static void find(void *pointer, const char *name) {
    if (!*(void **)pointer)
        *(void **)pointer = dlsym(RTLD_NEXT, name);
}

#define REAL(name) (find(&real, name), real)

static ssize_t wrote(int fd, const struct iovec *data, int parts, off_t offset, ssize_t done) {
    char path[PATH_MAX];
    int kept = errno;
    if (done > 0 && of_descriptor(fd, path)) {
        if (offset < 0)
            offset = lseek(fd, 0, SEEK_CUR) - done;
        note(WRITE, inode_of(fd), (uint64_t)offset, path, "", data, parts, (uint64_t)done);
    }
    errno = kept;
    return done;
}

ssize_t write(int fd, const void *from, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    struct iovec data = {(void *)from, size};
    return wrote(fd, &data, 1, -1, REAL("write")(fd, from, size));
}

ssize_t writev(int fd, const struct iovec *data, int parts) {
    static ssize_t (*real)(int, const struct iovec *, int);
    return wrote(fd, data, parts, -1, REAL("writev")(fd, data, parts));
}

#define POSITIONED(function)                                                        \
    ssize_t function(int fd, const void *from, size_t size, off_t offset) {         \
        static ssize_t (*real)(int, const void *, size_t, off_t);                   \
        struct iovec data = {(void *)from, size};                                   \
        return wrote(fd, &data, 1, offset, REAL(#function)(fd, from, size, offset)); \
    }
POSITIONED(pwrite)
POSITIONED(pwrite64)

#define POSITIONED_PARTS(function)                                                     \
    ssize_t function(int fd, const struct iovec *data, int parts, off_t offset) {      \
        static ssize_t (*real)(int, const struct iovec *, int, off_t);                 \
        return wrote(fd, data, parts, offset, REAL(#function)(fd, data, parts, offset)); \
    }
POSITIONED_PARTS(pwritev)
POSITIONED_PARTS(pwritev64)

#define TRUNCATING(function)                                                     \
    int function(int fd, off_t length) {                                         \
        static int (*real)(int, off_t);                                          \
        char path[PATH_MAX];                                                     \
        int done = REAL(#function)(fd, length);                                  \
        if (!done && of_descriptor(fd, path))                                    \
            note(TRUNCATE, inode_of(fd), (uint64_t)length, path, "", NULL, 0, 0); \
        return done;                                                             \
    }
TRUNCATING(ftruncate)
TRUNCATING(ftruncate64)

#define FLUSHING(function)                                             \
    int function(int fd) {                                             \
        static int (*real)(int);                                       \
        char path[PATH_MAX];                                           \
        int ours = of_descriptor(fd, path);                            \
        uint64_t inode = ours ? inode_of(fd) : 0;                      \
        if (ours)                                                      \
            note(FLUSH, inode, 0, path, "", NULL, 0, 0);               \
        int done = REAL(#function)(fd);                                \
        if (ours && !done)                                             \
            note(FLUSHED, inode, 0, path, "", NULL, 0, 0);             \
        return done;                                                   \
    }
FLUSHING(fsync)
FLUSHING(fdatasync)

/* What an open makes: a file that was not there, or one that is empty now. */
static int opened(int fd, const char *path, int flags, int was) {
    if (fd >= 0 && !was)
        note(CREATE, inode_of(fd), 0, path, "", NULL, 0, 0);
    else if (fd >= 0 && (flags & O_TRUNC))
        note(TRUNCATE, inode_of(fd), 0, path, "", NULL, 0, 0);
    return fd;
}

static int there(const char *path) {
    struct stat found;
    int kept = errno, gone = lstat(path, &found);
    errno = kept;
    return !gone;
}

#define OPENING(function)                                                           \
    int function(const char *path, int flags, ...) {                                \
        static int (*real)(const char *, int, ...);                                 \
        char found[PATH_MAX];                                                       \
        mode_t mode = 0;                                                            \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                      \
            va_list more;                                                           \
            va_start(more, flags);                                                  \
            mode = va_arg(more, mode_t);                                            \
            va_end(more);                                                           \
        }                                                                           \
        if (!(flags & (O_CREAT | O_TRUNC)) || !absolute(AT_FDCWD, path, found))     \
            return REAL(#function)(path, flags, mode);                              \
        int was = there(found);                                                     \
        return opened(REAL(#function)(path, flags, mode), found, flags, was);       \
    }
OPENING(open)
OPENING(open64)

#define OPENING_AT(function)                                                        \
    int function(int at, const char *path, int flags, ...) {                        \
        static int (*real)(int, const char *, int, ...);                            \
        char found[PATH_MAX];                                                       \
        mode_t mode = 0;                                                            \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                      \
            va_list more;                                                           \
            va_start(more, flags);                                                  \
            mode = va_arg(more, mode_t);                                            \
            va_end(more);                                                           \
        }                                                                           \
        if (!(flags & (O_CREAT | O_TRUNC)) || !absolute(at, path, found))           \
            return REAL(#function)(at, path, flags, mode);                          \
        int was = there(found);                                                     \
        return opened(REAL(#function)(at, path, flags, mode), found, flags, was);   \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

static int unlinked(int at, const char *path, int done) {
    char found[PATH_MAX];
    if (!done && absolute(at, path, found))
        note(UNLINK, 0, 0, found, "", NULL, 0, 0);
    return done;
}

int unlink(const char *path) {
    static int (*real)(const char *);
    return unlinked(AT_FDCWD, path, REAL("unlink")(path));
}

int unlinkat(int at, const char *path, int flags) {
    static int (*real)(int, const char *, int);
    return unlinked(at, path, REAL("unlinkat")(at, path, flags));
}

int rmdir(const char *path) {
    static int (*real)(const char *);
    return unlinked(AT_FDCWD, path, REAL("rmdir")(path));
}

static int renamed(int from, const char *old, int to, const char *path, int done) {
    char before[PATH_MAX], after[PATH_MAX];
    int left = absolute(from, old, before), came = absolute(to, path, after);
    if (!done && left && came)
        note(RENAME, 0, 0, before, after, NULL, 0, 0);
    return done;
}

int rename(const char *old, const char *path) {
    static int (*real)(const char *, const char *);
    return renamed(AT_FDCWD, old, AT_FDCWD, path, REAL("rename")(old, path));
}

int renameat(int from, const char *old, int to, const char *path) {
    static int (*real)(int, const char *, int, const char *);
    return renamed(from, old, to, path, REAL("renameat")(from, old, to, path));
}

static int made(int at, const char *path, int done) {
    char found[PATH_MAX];
    if (!done && absolute(at, path, found))
        note(MKDIR, 0, 0, found, "", NULL, 0, 0);
    return done;
}

int mkdir(const char *path, mode_t mode) {
    static int (*real)(const char *, mode_t);
    return made(AT_FDCWD, path, REAL("mkdir")(path, mode));
}

int mkdirat(int at, const char *path, mode_t mode) {
    static int (*real)(int, const char *, mode_t);
    return made(at, path, REAL("mkdirat")(at, path, mode));
}
