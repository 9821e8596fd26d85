/* Cuts below a process: an LD_PRELOAD library that stands between a program and the kernel.
 *
 * It sees each operation that changes a file under one of the prefixes in CUT_PREFIX (colon-separated, absolute),
 * counts it, and can, as told by a control file that every process maps (CUT_CONTROL; tests/faults/shim/__init__.py
 * writes it, also while the processes run):
 *
 *   kill    end the process by SIGKILL at its N-th operation: before it, after it, or torn in the middle of a write;
 *   fail    let operations of chosen kinds, from the N-th to the M-th, fail with ENOSPC, EIO, EROFS, EDQUOT, ...;
 *   record  append each operation with its data to a trace (CUT_TRACE), in the order in which they happened, from
 *           which a test builds what a disk may hold after a power loss (tests/faults/power.py);
 *   clock   add an offset to the wall clock (the monotonic clocks stay).
 *
 * Operations: creating a file, O_TRUNC, write and its relatives, fsync, fdatasync and syncfs, ftruncate, fallocate, rename,
 * unlink, link, symlink, mkdir, rmdir, chmod; opening for writing counts only for "fail"; sends on sockets when asked.
 * What is changed through mmap (SQLite's -shm) or by libc itself (stdio) is not seen.
 *
 * Real calls are raw system calls, never dlsym: safe in signal handlers, after fork, and before anything is set up.
 * Nothing is allocated. The counter is shared and atomic. Only while recording a lock makes operation and record one;
 * it is taken over from a process that died with it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { CREATE = 1, TRUNCATE, WRITE, SYNC, RENAME, UNLINK, LINK, SYMLINK, MKDIR, RMDIR, CHMOD, SEND, OPEN, MARK };
enum when { BEFORE = 0, AFTER = 1, TORN = 2 };

struct control { /* the same in shim/__init__.py */
    _Atomic int64_t count;
    int64_t kill_at, kill_when, torn_bytes;
    int64_t fail_from, fail_to, fail_errno, fail_kinds;
    int64_t clock_us;
    int64_t record;
    int64_t only_pid;
    int64_t sends;
    _Atomic int64_t failed;
    _Atomic int64_t lock;
};

struct entry { /* before each entry of the trace; then path, second path, data */
    uint32_t kind, path, second, pid;
    uint64_t offset, data;
};

static struct control *control;
static const char *prefixes;
static int trace = -1;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CUT_CONTROL");
    prefixes = getenv("CUT_PREFIX");
    if (!path || !prefixes) return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) return;
    void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (map == MAP_FAILED) return;
    const char *to = getenv("CUT_TRACE");
    if (to) { /* high, so that a program that closes or counts low descriptors does not meet it */
        int low = (int)syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        trace = low < 0 ? -1 : (int)syscall(SYS_fcntl, low, F_DUPFD_CLOEXEC, 500);
        if (low >= 0) syscall(SYS_close, low);
    }
    control = map;
}

/* -- paths ------------------------------------------------------------------------------------------------------- */

static size_t link_of(int fd, char *out) {
    char name[40] = "/proc/self/fd/", digits[16];
    size_t at = strlen(name), n = 0;
    unsigned value = (unsigned)fd;
    do digits[n++] = (char)('0' + value % 10); while (value /= 10);
    while (n) name[at++] = digits[--n];
    name[at] = 0;
    if (fd == AT_FDCWD) strcpy(name, "/proc/self/cwd");
    long size = syscall(SYS_readlinkat, AT_FDCWD, name, out, PATH_MAX - 1);
    out[size < 0 ? 0 : size] = 0;
    return size < 0 ? 0 : (size_t)size;
}

/* Absolute and without ".", "..", "//"; links are not followed. */
static void absolute(int dir, const char *path, char *out) {
    char whole[2 * PATH_MAX];
    size_t size = path[0] == '/' ? 0 : link_of(dir, whole);
    size_t more = strnlen(path, PATH_MAX - 2);
    whole[size++] = '/';
    memcpy(whole + size, path, more);
    whole[size + more] = 0;
    size_t end = 0;
    for (char *part = whole; *part;) {
        while (*part == '/') part++;
        size_t n = strcspn(part, "/");
        if (n == 2 && part[0] == '.' && part[1] == '.') {
            while (end && out[--end] != '/') {}
        } else if (n && !(n == 1 && part[0] == '.') && end + n + 2 < PATH_MAX) {
            out[end++] = '/';
            memcpy(out + end, part, n);
            end += n;
        }
        part += n;
    }
    out[end] = 0;
}

static int watched(const char *path) {
    for (const char *p = prefixes; *p;) {
        size_t n = strcspn(p, ":");
        if (n && !strncmp(path, p, n) && (path[n] == '/' || path[n] == 0)) return 1;
        p += n + (p[n] == ':');
    }
    return 0;
}

static int watched_fd(int fd, char *path) {
    size_t size;
    if (!control || fd < 0 || fd == trace || !(size = link_of(fd, path)) || path[0] != '/') return 0;
    if (size > 10 && !strcmp(path + size - 10, " (deleted)")) return 0;
    return watched(path);
}

static int exists(int dir, const char *path) {
    int kept = errno;
    struct stat st;
    int found = !fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW);
    errno = kept;
    return found;
}

/* -- what happens at an operation --------------------------------------------------------------------------------- */

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

static int concerned(void) { return control && (!control->only_pid || control->only_pid == getpid()); }

/* Counts the operation. Returns its number, or 0 when it must fail (errno is set) . */
static int64_t enter(enum kind kind) {
    if (!concerned()) return INT64_MAX;
    int64_t n = atomic_load(&control->count) + 1;
    if (kind != OPEN) n = atomic_fetch_add(&control->count, 1) + 1;
    if (kind != OPEN && n == control->kill_at && control->kill_when == BEFORE) die();
    if (control->fail_from && n >= control->fail_from && (!control->fail_to || n < control->fail_to) &&
        (!control->fail_kinds || (control->fail_kinds >> kind & 1))) {
        atomic_fetch_add(&control->failed, 1);
        errno = (int)control->fail_errno;
        return 0;
    }
    return n;
}

static void leave(int64_t n) {
    if (control && n == control->kill_at && control->kill_when != BEFORE) die();
}

static int lock(void) {
    if (!control || !control->record || trace < 0) return 0;
    int64_t me = syscall(SYS_gettid), free = 0;
    while (!atomic_compare_exchange_weak(&control->lock, &free, me)) {
        if (free && syscall(SYS_kill, free, 0) < 0 && errno == ESRCH) atomic_compare_exchange_strong(&control->lock, &free, 0);
        free = 0;
        sched_yield();
    }
    return 1;
}

static void unlock(int held) {
    if (held) atomic_store(&control->lock, 0);
}

static void put(const void *data, size_t size) {
    while (size) {
        long done = syscall(SYS_write, trace, data, size);
        if (done <= 0) return;
        data = (const char *)data + done;
        size -= (size_t)done;
    }
}

static void note(enum kind kind, const char *path, const char *second, uint64_t offset, const struct iovec *data, size_t size) {
    int kept = errno;
    struct entry entry = {kind, (uint32_t)strlen(path), second ? (uint32_t)strlen(second) : 0, (uint32_t)getpid(), offset, size};
    put(&entry, sizeof entry);
    put(path, entry.path);
    put(second, entry.second);
    for (; size; data++) {
        size_t part = data->iov_len < size ? data->iov_len : size;
        put(data->iov_base, part);
        size -= part;
    }
    errno = kept;
}

/* For the driver of a test: its own entry in the trace, such as "this write was acknowledged". */
__attribute__((visibility("default"))) void cut_mark(const char *text) {
    int held = lock();
    if (held) note(MARK, text, NULL, 0, NULL, 0);
    unlock(held);
}

/* One operation on paths: `call` is done between counting and recording. */
#define OPERATION(kind, path, second, offset, call)                        \
    do {                                                                   \
        int held = lock();                                                 \
        int64_t n = enter(kind);                                           \
        if (!n) { unlock(held); return -1; }                               \
        long result = (call);                                              \
        if (held && result >= 0) note(kind, path, second, offset, NULL, 0); \
        unlock(held);                                                      \
        leave(n);                                                          \
        return (int)result;                                                \
    } while (0)

/* -- opening ------------------------------------------------------------------------------------------------------ */

static int do_open(int dir, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    int writes = (flags & O_ACCMODE) != O_RDONLY;
    if (!control || !path || (!writes && !(flags & (O_CREAT | O_TRUNC))) || (flags & O_TMPFILE) == O_TMPFILE)
        return (int)syscall(SYS_openat, dir, path, flags, mode);
    absolute(dir, path, full);
    if (!watched(full)) return (int)syscall(SYS_openat, dir, path, flags, mode);
    int there = exists(dir, path);
    if ((flags & O_CREAT) && !there) OPERATION(CREATE, full, NULL, mode, syscall(SYS_openat, dir, path, flags, mode));
    if ((flags & O_TRUNC) && there) OPERATION(TRUNCATE, full, NULL, 0, syscall(SYS_openat, dir, path, flags, mode));
    if (writes && !enter(OPEN)) return -1;
    return (int)syscall(SYS_openat, dir, path, flags, mode);
}

static mode_t mode_of(int flags, va_list more) {
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0;
}

#define OPEN_LIKE(name)                                    \
    int name(const char *path, int flags, ...) {           \
        va_list more;                                      \
        va_start(more, flags);                             \
        mode_t mode = mode_of(flags, more);                \
        va_end(more);                                      \
        return do_open(AT_FDCWD, path, flags, mode);       \
    }
#define OPENAT_LIKE(name)                                  \
    int name(int dir, const char *path, int flags, ...) {  \
        va_list more;                                      \
        va_start(more, flags);                             \
        mode_t mode = mode_of(flags, more);                \
        va_end(more);                                      \
        return do_open(dir, path, flags, mode);            \
    }
OPEN_LIKE(open)
OPEN_LIKE(open64)
OPENAT_LIKE(openat)
OPENAT_LIKE(openat64)
int __open_2(const char *path, int flags) { return do_open(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return do_open(AT_FDCWD, path, flags, 0); }
int creat(const char *path, mode_t mode) { return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* -- writing ------------------------------------------------------------------------------------------------------ */

static ssize_t write_now(int fd, const struct iovec *data, int parts, int64_t at) {
    if (at >= 0) return syscall(SYS_pwritev, fd, data, (long)parts, at, 0L);
    return syscall(SYS_writev, fd, data, (long)parts);
}

static void tear(int fd, const struct iovec *data, int64_t at) {
    struct iovec first = data[0];
    if (control->torn_bytes < (int64_t)first.iov_len) first.iov_len = (size_t)control->torn_bytes;
    write_now(fd, &first, 1, at);
    die();
}

/* `at` is -1 for the file's own position. */
static ssize_t do_write(int fd, const struct iovec *data, int parts, int64_t at) {
    char path[PATH_MAX];
    if (!watched_fd(fd, path)) return write_now(fd, data, parts, at);
    int held = lock();
    int64_t n = enter(WRITE);
    if (!n) { unlock(held); return -1; }
    if (control && n == control->kill_at && control->kill_when == TORN) tear(fd, data, at);
    ssize_t done = write_now(fd, data, parts, at);
    if (held && done > 0) {
        int64_t place = at >= 0 ? at : syscall(SYS_lseek, fd, 0L, SEEK_CUR) - done;
        note(WRITE, path, NULL, (uint64_t)place, data, (size_t)done);
    }
    unlock(held);
    leave(n);
    return done;
}

ssize_t write(int fd, const void *data, size_t size) {
    if (!control) return syscall(SYS_write, fd, data, size);
    struct iovec one = {(void *)data, size};
    return do_write(fd, &one, 1, -1);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    struct iovec one = {(void *)data, size};
    return do_write(fd, &one, 1, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return pwrite(fd, data, size, at); }
ssize_t writev(int fd, const struct iovec *data, int parts) { return do_write(fd, data, parts, -1); }
ssize_t pwritev(int fd, const struct iovec *data, int parts, off_t at) { return do_write(fd, data, parts, at); }
ssize_t pwritev64(int fd, const struct iovec *data, int parts, off64_t at) { return do_write(fd, data, parts, at); }
ssize_t pwritev2(int fd, const struct iovec *data, int parts, off_t at, int flags) {
    (void)flags;
    return do_write(fd, data, parts, at);
}
ssize_t pwritev64v2(int fd, const struct iovec *data, int parts, off64_t at, int flags) {
    (void)flags;
    return do_write(fd, data, parts, at);
}

/* What the kernel copies by itself is done here by reading and writing, so that it is seen as writes. */
static ssize_t copy(int from, off64_t *from_at, int to, off64_t *to_at, size_t size) {
    static _Thread_local char part[1 << 16];
    if (size > sizeof part) size = sizeof part;
    ssize_t got = from_at ? syscall(SYS_pread64, from, part, size, *from_at) : syscall(SYS_read, from, part, size);
    if (got <= 0) return got;
    struct iovec one = {part, (size_t)got};
    ssize_t done = do_write(to, &one, 1, to_at ? *to_at : -1);
    if (!from_at && done < got) syscall(SYS_lseek, from, (done < 0 ? 0 : done) - got, SEEK_CUR);
    if (done > 0 && from_at) *from_at += done;
    if (done > 0 && to_at) *to_at += done;
    return done;
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t size) {
    char path[PATH_MAX];
    if (!watched_fd(to, path)) return syscall(SYS_sendfile, to, from, at, size);
    return copy(from, at, to, NULL, size);
}
ssize_t sendfile(int to, int from, off_t *at, size_t size) { return sendfile64(to, from, (off64_t *)at, size); }
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags) {
    char path[PATH_MAX];
    if (!watched_fd(to, path)) return syscall(SYS_copy_file_range, from, from_at, to, to_at, size, flags);
    return copy(from, from_at, to, to_at, size);
}

/* -- sizes and syncs ---------------------------------------------------------------------------------------------- */

int ftruncate(int fd, off_t size) {
    char path[PATH_MAX];
    if (!watched_fd(fd, path)) return (int)syscall(SYS_ftruncate, fd, size);
    OPERATION(TRUNCATE, path, NULL, (uint64_t)size, syscall(SYS_ftruncate, fd, size));
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }
int truncate(const char *name, off_t size) {
    char path[PATH_MAX];
    if (!control || (absolute(AT_FDCWD, name, path), !watched(path))) return (int)syscall(SYS_truncate, name, size);
    OPERATION(TRUNCATE, path, NULL, (uint64_t)size, syscall(SYS_truncate, name, size));
}
int truncate64(const char *name, off64_t size) { return truncate(name, size); }
int fallocate(int fd, int mode, off_t at, off_t size) {
    char path[PATH_MAX];
    struct stat st;
    if (!watched_fd(fd, path) || mode || fstat(fd, &st) || at + size <= st.st_size)
        return (int)syscall(SYS_fallocate, fd, (long)mode, at, size);
    OPERATION(TRUNCATE, path, NULL, (uint64_t)(at + size), syscall(SYS_fallocate, fd, (long)mode, at, size));
}
int fallocate64(int fd, int mode, off64_t at, off64_t size) { return fallocate(fd, mode, at, size); }
int posix_fallocate(int fd, off_t at, off_t size) { return fallocate(fd, 0, at, size) ? errno : 0; }
int posix_fallocate64(int fd, off64_t at, off64_t size) { return posix_fallocate(fd, at, size); }

int fsync(int fd) {
    char path[PATH_MAX];
    if (!watched_fd(fd, path)) return (int)syscall(SYS_fsync, fd);
    OPERATION(SYNC, path, NULL, 0, syscall(SYS_fsync, fd));
}
int fdatasync(int fd) {
    char path[PATH_MAX];
    if (!watched_fd(fd, path)) return (int)syscall(SYS_fdatasync, fd);
    OPERATION(SYNC, path, NULL, 1, syscall(SYS_fdatasync, fd));
}
int syncfs(int fd) {
    char path[PATH_MAX];
    if (!watched_fd(fd, path)) return (int)syscall(SYS_syncfs, fd);
    OPERATION(SYNC, path, NULL, 2, syscall(SYS_syncfs, fd));
}

/* -- names -------------------------------------------------------------------------------------------------------- */

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char one[PATH_MAX], two[PATH_MAX];
    if (!control) return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    absolute(from_dir, from, one);
    absolute(to_dir, to, two);
    if (!watched(one) && !watched(two)) return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    OPERATION(RENAME, one, two, 0, syscall(SYS_renameat2, from_dir, from, to_dir, to, flags));
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) { return renameat2(from_dir, from, to_dir, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int dir, const char *name, int flags) {
    char path[PATH_MAX];
    if (!control || (absolute(dir, name, path), !watched(path))) return (int)syscall(SYS_unlinkat, dir, name, flags);
    OPERATION(flags & AT_REMOVEDIR ? RMDIR : UNLINK, path, NULL, 0, syscall(SYS_unlinkat, dir, name, flags));
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    char one[PATH_MAX], two[PATH_MAX];
    if (!control || (absolute(to_dir, to, two), !watched(two))) return (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
    absolute(from_dir, from, one);
    OPERATION(LINK, one, two, 0, syscall(SYS_linkat, from_dir, from, to_dir, to, flags));
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int symlinkat(const char *target, int dir, const char *name) {
    char path[PATH_MAX];
    if (!control || (absolute(dir, name, path), !watched(path))) return (int)syscall(SYS_symlinkat, target, dir, name);
    OPERATION(SYMLINK, path, target, 0, syscall(SYS_symlinkat, target, dir, name));
}
int symlink(const char *target, const char *name) { return symlinkat(target, AT_FDCWD, name); }

int mkdirat(int dir, const char *name, mode_t mode) {
    char path[PATH_MAX];
    if (!control || (absolute(dir, name, path), !watched(path)) || exists(dir, name)) return (int)syscall(SYS_mkdirat, dir, name, mode);
    OPERATION(MKDIR, path, NULL, mode, syscall(SYS_mkdirat, dir, name, mode));
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int fchmodat(int dir, const char *name, mode_t mode, int flags) {
    char path[PATH_MAX];
    (void)flags;
    if (!control || (absolute(dir, name, path), !watched(path))) return (int)syscall(SYS_fchmodat, dir, name, mode);
    OPERATION(CHMOD, path, NULL, mode, syscall(SYS_fchmodat, dir, name, mode));
}
int chmod(const char *name, mode_t mode) { return fchmodat(AT_FDCWD, name, mode, 0); }
int fchmod(int fd, mode_t mode) {
    char path[PATH_MAX];
    if (!watched_fd(fd, path)) return (int)syscall(SYS_fchmod, fd, mode);
    OPERATION(CHMOD, path, NULL, mode, syscall(SYS_fchmod, fd, mode));
}

/* -- sockets, only when asked ------------------------------------------------------------------------------------- */

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t to_size) {
    if (!control || !control->sends) return syscall(SYS_sendto, fd, data, size, (long)flags, to, (long)to_size);
    int64_t n = enter(SEND);
    if (!n) return -1;
    if (n == control->kill_at && control->kill_when == TORN) {
        syscall(SYS_sendto, fd, data, (size_t)control->torn_bytes < size ? (size_t)control->torn_bytes : size, (long)flags, to, (long)to_size);
        die();
    }
    ssize_t done = syscall(SYS_sendto, fd, data, size, (long)flags, to, (long)to_size);
    leave(n);
    return done;
}
ssize_t send(int fd, const void *data, size_t size, int flags) { return sendto(fd, data, size, flags, NULL, 0); }
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    if (!control || !control->sends) return syscall(SYS_sendmsg, fd, message, (long)flags);
    int64_t n = enter(SEND);
    if (!n) return -1;
    ssize_t done = syscall(SYS_sendmsg, fd, message, (long)flags);
    leave(n);
    return done;
}

/* -- clock -------------------------------------------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, (long)clock, now);
    if (result || !control || !control->clock_us || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return result;
    int64_t ns = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + control->clock_us * 1000;
    now->tv_sec = ns / 1000000000;
    now->tv_nsec = ns % 1000000000;
    return 0;
}

#include "clock.h" /* gettimeofday, time */
