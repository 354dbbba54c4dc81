/* sandbox.c: Landlock, called directly: the C library has no functions for it.
 *
 * A ruleset names the rights that are taken away everywhere, and rules give some of them back below
 * a file or folder. Which rights there are depends on the kernel's version of the interface: what
 * it does not know must not be named. The rights and structures are those of linux/landlock.h and
 * stand here because the header of the machine that compiles may be older than the kernel that
 * runs (Documentation/userspace-api/landlock.rst). */
#define _GNU_SOURCE /* O_PATH */
#include "sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CALL_CREATE = 444, CALL_ADD = 445, CALL_RESTRICT = 446 }; /* on every architecture */
enum { ASK_VERSION = 1, RULE_BENEATH = 1, ALL_THREADS = 8 };

enum {
    FS_EXECUTE = 1 << 0,
    FS_WRITE_FILE = 1 << 1,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_REMOVE_DIR = 1 << 4,
    FS_REMOVE_FILE = 1 << 5,
    FS_MAKE_DIR = 1 << 7,
    FS_MAKE_REG = 1 << 8,
    FS_REFER = 1 << 13,    /* rename between folders; since version 2 */
    FS_TRUNCATE = 1 << 14, /* 3 */
    FS_OF_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE,
    FS_READ = FS_READ_FILE | FS_READ_DIR,
    FS_WRITE = FS_READ | FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR |
               FS_MAKE_REG | FS_REFER | FS_TRUNCATE,
};

struct ruleset_attr {
    uint64_t fs, net, scoped;
};
struct beneath_attr {
    uint64_t allowed;
    int32_t fd;
} __attribute__((packed));

/* By version of the interface: the rights of files that it knows, how much of ruleset_attr. */
static const struct version {
    int first_fs_unknown; /* bit */
    size_t size;
    uint64_t net;    /* bind and connect of TCP: both are taken away */
    uint64_t scoped; /* abstract sockets of, and signals to, processes outside */
} versions[] = {
    {0, 0, 0, 0},   {13, 8, 0, 0},  {14, 8, 0, 0},  {15, 8, 0, 0},
    {15, 16, 3, 0}, {16, 16, 3, 0}, {16, 24, 3, 3},
};
enum { NEWEST = sizeof versions / sizeof *versions - 1 };

/* What the libraries and process.c read of the machine. */
static const struct sandbox_path machine[] = {
    {"/proc/self", SANDBOX_READ, false},   {"/proc/stat", SANDBOX_READ, false},
    {"/dev/urandom", SANDBOX_READ, false}, {"/sys/devices/system/cpu", SANDBOX_READ, false},
    {"/dev/null", SANDBOX_READ, false},    {"/proc/sys/kernel/random/boot_id", SANDBOX_READ, false},
};

/* ---- rules ----------------------------------------------------------------------------------- */

static int add_rule(int ruleset, int fd, uint64_t rights)
{
    struct stat st;
    if (fstat(fd, &st))
        return -1;
    struct beneath_attr rule = {S_ISDIR(st.st_mode) ? rights : rights & FS_OF_FILES, fd};
    return (int)syscall(CALL_ADD, ruleset, RULE_BENEATH, &rule, 0);
}

static int allow(int ruleset, const char *path, uint64_t rights)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    int status = fd < 0 ? -1 : add_rule(ruleset, fd, rights), why = errno;
    if (fd >= 0)
        close(fd);
    errno = why;
    return status;
}

/* Of the folder that a file is in; `path` is changed. */
static int allow_folder(int ruleset, char *path, uint64_t rights)
{
    char *slash = strrchr(path, '/');
    if (!slash)
        return allow(ruleset, ".", rights);
    slash[slash == path] = 0;
    return allow(ruleset, path, rights);
}

static int allow_row(int ruleset, const struct sandbox_path *row, uint64_t known, struct error *e)
{
    static const uint64_t uses[] = {[SANDBOX_READ] = FS_READ,
                                    [SANDBOX_WRITE] = FS_WRITE,
                                    [SANDBOX_RENAME] = FS_REMOVE_FILE | FS_MAKE_REG};
    char path[PATH_MAX], real[PATH_MAX];
    uint64_t rights = uses[row->use] & known;
    int status;
    if (!row->folder) {
        status = allow(ruleset, row->path, rights);
    } else {
        snprintf(path, sizeof path, "%s", row->path);
        status = allow_folder(ruleset, path, rights);
        if (!status && realpath(row->path, real))
            status = allow_folder(ruleset, real, rights);
    }
    return status ? error_set(e, ERROR_NOT_READY, "the sandbox cannot open '%s': %s", row->path,
                              strerror(errno))
                  : 0;
}

/* A ruleset, complete; -1: see `e`. */
static int ruleset_make(int version, const struct sandbox_path *paths, size_t n, struct error *e)
{
    const struct version *v = &versions[version];
    uint64_t known = ((uint64_t)1 << v->first_fs_unknown) - 1;
    struct ruleset_attr attr = {known, v->net, v->scoped};
    int ruleset = (int)syscall(CALL_CREATE, &attr, v->size, 0);
    if (ruleset < 0)
        return error_set(e, ERROR_NOT_READY, "the sandbox cannot be made: %s", strerror(errno));
    for (size_t i = 0; i < sizeof machine / sizeof *machine; i++)
        allow(ruleset, machine[i].path, FS_READ); /* what is not there is not needed */
    if (SANDBOX_SANITIZER)
        allow(ruleset, "/", FS_READ | FS_EXECUTE);
    for (size_t i = 0; i < n; i++)
        if (paths[i].path && allow_row(ruleset, &paths[i], known, e)) {
            close(ruleset);
            return -1;
        }
    return ruleset;
}

/* ---- threads --------------------------------------------------------------------------------- */

static int count_threads(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *f; d && (f = readdir(d));)
        n += f->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

/* OpenBLAS starts threads before main, which would stay outside of Landlock. It ends them when its
 * process forks (pthread_atfork), and makes new ones only for calls that use several: ours do not
 * (engine_start). */
static void end_library_threads(void)
{
    if (count_threads() < 2)
        return;
    pid_t child = fork();
    if (!child)
        _exit(0);
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static const char *lacks(int why)
{
    return why == ENOSYS || why == EINVAL ? "this kernel does not have it"
           : why == EOPNOTSUPP            ? "it is switched off in this kernel"
           : why == EPERM || why == EACCES
               ? "what is around this process, such as a container, forbids it"
               : strerror(why);
}

/* The ruleset is for this thread; newer kernels take all of them. */
static int restrict_self(int ruleset, struct sandbox_report *r)
{
    if (r->threads_outside && !syscall(CALL_RESTRICT, ruleset, ALL_THREADS)) {
        r->threads_outside = 0;
        return 0;
    }
    return syscall(CALL_RESTRICT, ruleset, 0) ? errno : 0;
}

static int enter_landlock(const struct sandbox_path *paths, size_t n, struct sandbox_report *r,
                          struct error *e)
{
    long version = syscall(CALL_CREATE, NULL, 0, ASK_VERSION);
    if (version < 1) {
        r->landlock_lacks = lacks(version ? errno : ENOSYS);
        return 0;
    }
    int ruleset = ruleset_make(version < NEWEST ? (int)version : NEWEST, paths, n, e);
    if (ruleset < 0)
        return -1;
    int why = restrict_self(ruleset, r);
    close(ruleset);
    r->landlock = why ? 0 : (int)version;
    r->landlock_lacks = why ? lacks(why) : NULL;
    return 0;
}

int sandbox_enter(const struct sandbox_path *paths, size_t n, struct sandbox_report *r_r,
                  struct error *e)
{
    *r_r = (struct sandbox_report){0};
    end_library_threads();
    int threads = count_threads();
    r_r->threads_outside = threads > 1 ? threads - 1 : 0;
    r_r->no_new_privileges = !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (enter_landlock(paths, n, r_r, e))
        return -1;
    int why = sandbox_seccomp();
    r_r->seccomp = !why;
    r_r->seccomp_lacks = why ? lacks(why) : NULL;
    return 0;
}
