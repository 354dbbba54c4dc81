/* faults.c: the test's side of faults.h. */
#include "faults.h"

#include "daemon.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

bool faults_possible(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false; /* those want to be the first library, and have an allocator of their own */
#else
    return true;
#endif
}

struct faults *faults_create(const struct daemon *d)
{
    char path[512];
    snprintf(path, sizeof path, "%s/faults", d->folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, sizeof(struct faults)), 0);
    struct faults *f = mmap(NULL, sizeof(struct faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    assert_true(f != MAP_FAILED);
    return f;
}

void faults_destroy(struct faults **f)
{
    munmap(*f, sizeof **f);
    *f = NULL;
}

static void shim_load(struct daemon *d, const char *trace)
{
    char path[512], shim[PATH_MAX];
    const char *build = getenv("BUILD");
    snprintf(path, sizeof path, "%s/tests/support/faults_preload.so", build ? build : "build");
    if (!realpath(path, shim))
        fail_msg("%s is missing: make tests", path);
    snprintf(path, sizeof path, "%s/faults", d->folder);
    setenv(FAULTS_FILE, path, 1);
    setenv("LD_PRELOAD", shim, 1);
    if (trace)
        setenv(FAULTS_TRACE, trace, 1);
}

static void shim_unload(void)
{
    unsetenv("LD_PRELOAD");
    unsetenv(FAULTS_TRACE);
    unsetenv(FAULTS_FILE);
}

int faults_try(struct daemon *d, const char *const *flags)
{
    shim_load(d, NULL);
    int status = daemon_try(d, flags);
    shim_unload();
    return status;
}

void faults_spawn(struct daemon *d, const char *const *flags)
{
    shim_load(d, NULL);
    daemon_spawn(d, flags);
    shim_unload();
}

void faults_start(struct daemon *d, const char *const *flags, const char *trace)
{
    shim_load(d, trace);
    daemon_start(d, flags);
    shim_unload();
}

static void arm(struct faults *f, const struct faults *how, int armed)
{
    faults_disarm(f);
    *f = *how;
    f->armed = 0;
    f->matched = f->struck = 0;
    __atomic_store_n(&f->armed, armed, __ATOMIC_SEQ_CST);
}

void faults_arm(struct faults *f, const struct faults *how)
{
    arm(f, how, FAULTS_ARMED);
}

struct faults *faults_start_slow(struct daemon *d)
{
    daemon_stop(d);
    struct faults *f = faults_create(d);
    faults_start(d, NULL, NULL);
    return f;
}

void faults_arm_slow(struct faults *f)
{
    faults_arm(f, &(struct faults){.kinds = FAULT_UNLOCK,
                                   .places = PLACE_MEMORY,
                                   .action = STRIKE_PAUSE,
                                   .strikes = INT64_MAX});
}

void faults_arm_start(struct faults *f, const struct faults *how)
{
    arm(f, how, FAULTS_WAIT);
}

void faults_disarm(struct faults *f)
{
    __atomic_store_n(&f->armed, 0, __ATOMIC_SEQ_CST);
}
