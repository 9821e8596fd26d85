/* A clock that can run fast: an LD_PRELOAD library with which an hour passes in seconds.
 *
 * All processes map a control file (HOUR_CONTROL; tests/faults/hour.py writes it while they run) that says how fast time
 * goes and how far it has come. Clocks are read through it, and every timed wait is made as much shorter. So what a
 * program does in an hour of waiting, trying again and giving up, it does in a few seconds, in the same order.
 *
 * Not seen: timers of the kernel (setitimer, timerfd, socket options), and system calls made without libc.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define SLOTS 64

struct pace { /* from the moment `real` (monotonic) on, which is `shown`, time goes `speed` times as fast */
    int64_t real, shown;
    double speed;
    int64_t wall; /* added to the wall clock besides */
};

struct control { /* the same in hour.py */
    _Atomic int64_t current;
    struct pace paces[SLOTS];
};

static struct control *control;

static int64_t ns(const struct timespec *t) { return (int64_t)t->tv_sec * SECOND + t->tv_nsec; }

static struct timespec spec(int64_t n) {
    struct timespec t = {n < 0 ? 0 : n / SECOND, n < 0 ? 0 : n % SECOND};
    return t;
}

static int64_t real_ns(clockid_t clock) {
    struct timespec t;
    syscall(SYS_clock_gettime, (long)clock, &t);
    return ns(&t);
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("HOUR_CONTROL");
    if (!path) return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    void *map = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED) control = map;
}

static struct pace pace(void) { return control->paces[atomic_load(&control->current) % SLOTS]; }

static int is_wall(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE; }

static int is_shown(clockid_t clock) {
    return is_wall(clock) || clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_MONOTONIC_RAW ||
           clock == CLOCK_BOOTTIME;
}

/* What a clock shows when it really is at `real`. */
static int64_t shown(clockid_t clock, int64_t real) {
    struct pace p = pace();
    int64_t now = real_ns(CLOCK_MONOTONIC);
    int64_t ahead = p.shown + (int64_t)((double)(now - p.real) * p.speed) - now;
    return real + ahead + (is_wall(clock) ? p.wall : 0);
}

static int64_t shorter(int64_t wait) {
    if (wait <= 0) return wait;
    int64_t real = (int64_t)((double)wait / pace().speed);
    return real > 0 ? real : 1;
}

/* The real moment of the kernel's clock at which a clock shows `moment`, at the present pace. */
static struct timespec real_moment(clockid_t clock, const struct timespec *moment) {
    int64_t real = real_ns(clock);
    return spec(real + shorter(ns(moment) - shown(clock, real)));
}

static void *next(const char *name, const char *version) {
    void *found = version ? dlvsym(RTLD_NEXT, name, version) : NULL;
    return found ? found : dlsym(RTLD_NEXT, name);
}

/* -- clocks ------------------------------------------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, (long)clock, now);
    if (!result && control && is_shown(clock)) *now = spec(shown(clock, ns(now)));
    return result;
}

#include "clock.h" /* gettimeofday, time */

/* -- waits -------------------------------------------------------------------------------------------------------- */

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *asked, struct timespec *left) {
    if (!control || !is_shown(clock)) return syscall(SYS_clock_nanosleep, (long)clock, (long)flags, asked, left) < 0 ? errno : 0;
    int64_t wait = flags & TIMER_ABSTIME ? ns(asked) - shown(clock, real_ns(clock)) : ns(asked);
    if (wait <= 0) return 0;
    struct timespec real = spec(shorter(wait));
    return syscall(SYS_clock_nanosleep, (long)CLOCK_MONOTONIC, 0L, &real, left) < 0 ? errno : 0;
}

int nanosleep(const struct timespec *asked, struct timespec *left) {
    int problem = clock_nanosleep(CLOCK_MONOTONIC, 0, asked, left);
    if (!problem) return 0;
    errno = problem;
    return -1;
}

static int milliseconds(int wait) {
    if (!control || wait <= 0) return wait;
    return (int)((shorter((int64_t)wait * 1000000) + 999999) / 1000000);
}

int poll(struct pollfd *fds, nfds_t count, int wait) {
    return (int)syscall(SYS_poll, fds, count, (long)milliseconds(wait));
}

int epoll_wait(int epoll, struct epoll_event *events, int size, int wait) {
    return (int)syscall(SYS_epoll_pwait, (long)epoll, events, (long)size, (long)milliseconds(wait), NULL, 8L);
}

int epoll_pwait(int epoll, struct epoll_event *events, int size, int wait, const sigset_t *mask) {
    return (int)syscall(SYS_epoll_pwait, (long)epoll, events, (long)size, (long)milliseconds(wait), mask, 8L);
}

int select(int count, fd_set *in, fd_set *out, fd_set *other, struct timeval *wait) {
    struct timespec real, *given = NULL;
    if (wait) {
        int64_t asked = (int64_t)wait->tv_sec * SECOND + (int64_t)wait->tv_usec * 1000;
        real = spec(control ? shorter(asked) : asked);
        given = &real;
    }
    return (int)syscall(SYS_pselect6, (long)count, in, out, other, given, NULL);
}

int sem_timedwait(sem_t *sem, const struct timespec *until) {
    static int (*wait)(sem_t *, const struct timespec *);
    if (!wait) wait = next("sem_timedwait", NULL);
    struct timespec real = control ? real_moment(CLOCK_REALTIME, until) : *until;
    return wait(sem, &real);
}

int sem_clockwait(sem_t *sem, clockid_t clock, const struct timespec *until) {
    static int (*wait)(sem_t *, clockid_t, const struct timespec *);
    if (!wait) wait = next("sem_clockwait", NULL);
    struct timespec real = control ? real_moment(clock, until) : *until;
    return wait(sem, clock, &real);
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
    static int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!wait) wait = next("pthread_cond_timedwait", "GLIBC_2.3.2");
    clockid_t clock = until->tv_sec > 500000000 ? CLOCK_REALTIME : CLOCK_MONOTONIC; /* the condition's own; nobody tells */
    struct timespec real = control ? real_moment(clock, until) : *until;
    return wait(cond, mutex, &real);
}

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock, const struct timespec *until) {
    static int (*wait)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    if (!wait) wait = next("pthread_cond_clockwait", NULL);
    struct timespec real = control ? real_moment(clock, until) : *until;
    return wait(cond, mutex, clock, &real);
}
