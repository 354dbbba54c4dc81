/* sandbox.h: what the process gives up once it has opened what it needs. */
#ifndef BACKPROPD_SANDBOX_H
#define BACKPROPD_SANDBOX_H

#include "backprop.h"

#include <stddef.h>

enum sandbox_use {
    SANDBOX_READ,  /* a file, or all files below a folder */
    SANDBOX_WRITE, /* and make, change, rename and remove files and folders below it */
    SANDBOX_RENAME /* only rename and remove what is in a folder */
};

struct sandbox_path {
    const char *path; /* NULL: this row is left out */
    enum sandbox_use use;
    bool folder; /* the folder that `path` is in, and the one that it leads to by a symbolic link:
                    its file will be replaced by another */
};

/* What came of it. Each sentence is NULL when it worked, else why it did not. */
struct sandbox_report {
    bool no_new_privileges;
    int landlock; /* version of the kernel's interface; 0: none */
    const char *landlock_lacks;
    bool seccomp;
    const char *seccomp_lacks;
    int threads_outside; /* that were there before, and Landlock does not hold */
};

/* Closes this process in, for good: files outside of `paths`, new sockets, new processes and what
 * would change the machine are refused with EACCES or EPERM. What the kernel, or a container around
 * us, does not offer is left out and reported. -1 and ERROR_NOT_READY: a path that cannot be
 * opened; nothing has changed then. Call it from the only thread: Landlock holds threads that are
 * made later. */
int sandbox_enter(const struct sandbox_path *paths, size_t n, struct sandbox_report *r_r,
                  struct error *e);

/* The filter of system calls, for sandbox.c: sandbox_seccomp.c. 0, or an errno. */
int sandbox_seccomp(void);

/* What a sanitizer does at its end (looking at the threads of its process as a debugger does, and
 * running a program that names addresses) stays allowed in a build with one. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANDBOX_SANITIZER = 1 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(undefined_behavior_sanitizer)
enum { SANDBOX_SANITIZER = 1 };
#else
enum { SANDBOX_SANITIZER = 0 };
#endif
#else
enum { SANDBOX_SANITIZER = 0 };
#endif

#endif
