/* faults_preload.c: a library that is loaded into a daemon with LD_PRELOAD and makes its calls to
 * files and to memory go wrong when a test says so (faults.h): fail, write half, or kill the
 * process right there. It stands below SQLite's VFS and below the redo log alike, so one shim
 * covers all that the daemon keeps. It can also record every change of a file, from which
 * power_cut.c makes the states that a loss of power can leave. */
#define _GNU_SOURCE
#include "faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static struct faults *faults; /* NULL: the shim does nothing */
static int trace_fd = -1;
static pthread_mutex_t trace_lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv(FAULTS_FILE), *trace = getenv(FAULTS_TRACE);
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *page =
        fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (trace)
        trace_fd = open(trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (page != MAP_FAILED)
        faults = page;
}

/* ---- which file ------------------------------------------------------------------------------ */

static int place_of_path(const char *path)
{
    size_t n = strlen(path);
    if (n > 4 && strcmp(path + n - 4, "-wal") == 0)
        return PLACE_WAL;
    if (n > 3 && strcmp(path + n - 3, ".db") == 0)
        return PLACE_DATABASE;
    return strstr(path, "/redo/") ? PLACE_REDO : PLACE_OTHER;
}

/* The path of a regular file or a folder; 0: it is none. */
static int place_of(int fd, char path[512])
{
    char link[64];
    struct stat st;
    if (fstat(fd, &st) || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, 511);
    path[n > 0 ? n : 0] = 0;
    return n > 0 ? place_of_path(path) : 0;
}

/* ---- whether it is struck -------------------------------------------------------------------- */

static bool strikes(int kind, int place)
{
    struct faults *f = faults;
    if (!f || __atomic_load_n(&f->armed, __ATOMIC_ACQUIRE) != FAULTS_ARMED || !(f->kinds & kind) ||
        !(f->places & place))
        return false;
    int64_t n = __atomic_fetch_add(&f->matched, 1, __ATOMIC_RELAXED);
    if (n < f->skip || n - f->skip >= f->strikes)
        return false;
    f->hit_kind = kind;
    f->hit_place = place;
    __atomic_fetch_add(&f->struck, 1, __ATOMIC_RELAXED);
    return true;
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        pause();
}

/* ---- the record of changes ------------------------------------------------------------------- */

static void trace(int kind, const char *path, uint64_t at, const struct iovec *v, int n,
                  uint64_t bytes)
{
    struct trace_record r = {(uint32_t)kind, (uint32_t)strlen(path), at, bytes};
    struct iovec all[80] = {{&r, sizeof r}, {(void *)path, r.path}};
    int parts = 2;
    for (int i = 0; i < n && parts < 80 && bytes; i++) {
        size_t take = v[i].iov_len < bytes ? v[i].iov_len : bytes;
        all[parts++] = (struct iovec){v[i].iov_base, take};
        bytes -= take;
    }
    if (syscall(SYS_writev, trace_fd, all, parts) < 0)
        die(); /* the record would not be true */
}

/* ---- writing --------------------------------------------------------------------------------- */

static ssize_t raw_write(int fd, const struct iovec *v, int n, int64_t at)
{
    return at < 0 ? syscall(SYS_writev, fd, v, n) : syscall(SYS_pwritev, fd, v, n, at, 0);
}

/* The first half of the bytes. */
static ssize_t half_write(int fd, const struct iovec *v, int n, int64_t at)
{
    size_t all = 0, left;
    struct iovec some[80];
    int parts = 0;
    for (int i = 0; i < n; i++)
        all += v[i].iov_len;
    left = all / 2;
    for (int i = 0; i < n && parts < 80; i++) {
        size_t take = v[i].iov_len < left ? v[i].iov_len : left;
        some[parts++] = (struct iovec){v[i].iov_base, take};
        left -= take;
    }
    return raw_write(fd, some, parts, at);
}

/* `at` -1: where the file stands. */
static ssize_t write_traced(int fd, const struct iovec *v, int n, int64_t at, const char *path)
{
    pthread_mutex_lock(&trace_lock);
    int64_t begin = at < 0 ? lseek(fd, 0, SEEK_CUR) : at;
    ssize_t done = raw_write(fd, v, n, at);
    int saved = errno;
    if (done > 0)
        trace(FAULT_WRITE, path, (uint64_t)begin, v, n, (uint64_t)done);
    pthread_mutex_unlock(&trace_lock);
    errno = saved;
    return done;
}

static bool idle(void)
{
    return trace_fd < 0 && (!faults || !__atomic_load_n(&faults->armed, __ATOMIC_ACQUIRE));
}

static ssize_t write_any(int fd, const struct iovec *v, int n, int64_t at)
{
    char path[512];
    int place = idle() ? 0 : place_of(fd, path);
    if (!place)
        return raw_write(fd, v, n, at);
    if (!strikes(FAULT_WRITE, place))
        return trace_fd < 0 ? raw_write(fd, v, n, at) : write_traced(fd, v, n, at, path);
    if (faults->action == STRIKE_ERROR) {
        errno = faults->error;
        return -1;
    }
    ssize_t done = 0;
    if (faults->action == STRIKE_SHORT || faults->action == STRIKE_KILL_TORN)
        done = half_write(fd, v, n, at);
    else if (faults->action == STRIKE_KILL_AFTER)
        done = raw_write(fd, v, n, at);
    if (faults->action != STRIKE_SHORT)
        die();
    return done;
}

ssize_t write(int fd, const void *data, size_t bytes)
{
    struct iovec v = {(void *)data, bytes};
    return write_any(fd, &v, 1, -1);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
    return write_any(fd, v, n, -1);
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t at)
{
    struct iovec v = {(void *)data, bytes};
    return write_any(fd, &v, 1, at);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at)
{
    return pwrite64(fd, data, bytes, at);
}

/* ---- all that is not writing ----------------------------------------------------------------- */

/* Runs `call`; for a kill, before or after it. */
#define STRUCK(kind, place, call)                                                                  \
    ({                                                                                             \
        long status_ = -1;                                                                         \
        if (faults->action == STRIKE_ERROR || faults->action == STRIKE_SHORT) {                    \
            errno = faults->error;                                                                 \
        } else {                                                                                   \
            if (faults->action == STRIKE_KILL_AFTER)                                               \
                status_ = call;                                                                    \
            die();                                                                                 \
        }                                                                                          \
        status_;                                                                                   \
    })

static long traced(int kind, const char *path, uint64_t at, long number, long a, long b)
{
    pthread_mutex_lock(&trace_lock);
    long status = syscall(number, a, b);
    int saved = errno;
    if (status == 0 && trace_fd >= 0)
        trace(kind, path, at, NULL, 0, 0);
    pthread_mutex_unlock(&trace_lock);
    errno = saved;
    return status;
}

static long call_fd(int kind, long number, int fd, long argument)
{
    char path[512];
    int place = idle() ? 0 : place_of(fd, path);
    if (!place)
        return syscall(number, fd, argument);
    if (strikes(kind, place))
        return STRUCK(kind, place, syscall(number, fd, argument));
    return traced(kind, path, (uint64_t)argument, number, fd, argument);
}

static long call_path(int kind, long number, const char *path, long argument)
{
    char whole[512];
    if (idle())
        return syscall(number, path, argument);
    const char *name = realpath(path, whole) ? whole : path;
    int place = place_of_path(name);
    if (strikes(kind, place))
        return STRUCK(kind, place, syscall(number, path, argument));
    return traced(kind, name, kind == FAULT_TRUNCATE ? (uint64_t)argument : 0, number, (long)path,
                  argument);
}

int fsync(int fd)
{
    return (int)call_fd(FAULT_SYNC, SYS_fsync, fd, 0);
}

int fdatasync(int fd)
{
    return (int)call_fd(FAULT_SYNC, SYS_fdatasync, fd, 0);
}

int ftruncate64(int fd, off64_t size)
{
    return (int)call_fd(FAULT_TRUNCATE, SYS_ftruncate, fd, size);
}

int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

int truncate64(const char *path, off64_t size)
{
    return (int)call_path(FAULT_TRUNCATE, SYS_truncate, path, size);
}

int truncate(const char *path, off_t size)
{
    return truncate64(path, size);
}

int unlink(const char *path)
{
    return (int)call_path(FAULT_UNLINK, SYS_unlink, path, 0);
}

int rename(const char *from, const char *to)
{
    return (int)call_path(FAULT_RENAME, SYS_rename, from, (long)to);
}

/* Another boot_id: some other file whose text stays the same. */
int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (strcmp(path, "/proc/sys/kernel/random/boot_id") == 0 && getenv(FAULTS_BOOT))
        path = "/proc/version";
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int flock(int fd, int how)
{
    int waiting = FAULTS_WAIT;
    if (faults)
        __atomic_compare_exchange_n(&faults->armed, &waiting, FAULTS_ARMED, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST);
    return (int)syscall(SYS_flock, fd, how);
}

static ssize_t read_any(int fd, void *data, size_t bytes, int64_t at)
{
    char path[512];
    int place = !faults || !faults->armed || !(faults->kinds & FAULT_READ) ? 0 : place_of(fd, path);
    bool struck = place && strikes(FAULT_READ, place);
    while (struck && faults->action == STRIKE_PAUSE && faults->armed)
        usleep(1000);
    if (struck && faults->action != STRIKE_PAUSE)
        return STRUCK(FAULT_READ, place, 0);
    return at < 0 ? syscall(SYS_read, fd, data, bytes) : syscall(SYS_pread64, fd, data, bytes, at);
}

ssize_t read(int fd, void *data, size_t bytes)
{
    return read_any(fd, data, bytes, -1);
}

ssize_t pread64(int fd, void *data, size_t bytes, off64_t at)
{
    return read_any(fd, data, bytes, at);
}

ssize_t pread(int fd, void *data, size_t bytes, off_t at)
{
    return read_any(fd, data, bytes, at);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* glibc's own, under the names that it exports for this. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);

static bool refused(void)
{
    if (!strikes(FAULT_ALLOCATE, PLACE_MEMORY))
        return false;
    if (faults->action >= STRIKE_KILL)
        die();
    errno = ENOMEM;
    return true;
}

void *malloc(size_t bytes)
{
    return refused() ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes)
{
    return refused() ? NULL : __libc_calloc(n, bytes);
}

void *realloc(void *old, size_t bytes)
{
    return bytes && refused() ? NULL : __libc_realloc(old, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return refused() ? NULL : __libc_memalign(alignment, bytes);
}

int posix_memalign(void **memory_r, size_t alignment, size_t bytes)
{
    void *memory = refused() ? NULL : __libc_memalign(alignment, bytes);
    if (memory)
        *memory_r = memory;
    return memory ? 0 : ENOMEM;
}

/* ---- locks ----------------------------------------------------------------------------------- */

int pthread_mutex_unlock(pthread_mutex_t *lock)
{
    static int (*real)(pthread_mutex_t *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_mutex_unlock");
    int status = real(lock);
    static uint32_t random; /* one of four waits: were it all, they would stay in step */
    if (strikes(FAULT_UNLOCK, PLACE_MEMORY) &&
        __atomic_add_fetch(&random, 0x9e3779b9, __ATOMIC_RELAXED) * 0x85ebca6b >> 30 == 0)
        usleep(1000);
    return status;
}
