/* test_sandbox.c: what can no longer be done from inside. Each test closes a forked child in, which
 * tries everything in a table and ends with the number of what came out wrong. */
#define _GNU_SOURCE
#include "../../server/sandbox.h"

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NO_LANDLOCK = 98, NO_SECCOMP = 99 };
#if defined(__SANITIZE_THREAD__)
enum { TOOL_THREADS = 1 }; /* the sanitizer's own, which is there before main */
#else
enum { TOOL_THREADS = 0 };
#endif

struct place {
    char folder[64], inside[96], outside[96]; /* a folder, and a file beside it */
};

static void place_make(struct place *p)
{
    strcpy(p->folder, "/tmp/backpropd-sandbox-XXXXXX");
    assert_non_null(mkdtemp(p->folder));
    snprintf(p->inside, sizeof p->inside, "%s/data", p->folder);
    snprintf(p->outside, sizeof p->outside, "%s/secret", p->folder);
    assert_int_equal(mkdir(p->inside, 0700), 0);
    int fd = open(p->outside, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void place_remove(const struct place *p)
{
    char made[112];
    snprintf(made, sizeof made, "%s/made", p->inside);
    unlink(made);
    rmdir(p->inside);
    unlink(p->outside);
    assert_int_equal(rmdir(p->folder), 0);
}

/* What `run` returns in a child that is closed into p->inside: its exit status. */
static int inside(struct place *p, int (*run)(struct place *p, const struct sandbox_report *r))
{
    int status;
    place_make(p);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        struct sandbox_report r;
        struct error e;
        const struct sandbox_path paths[] = {{p->inside, SANDBOX_WRITE, false}};
        if (sandbox_enter(paths, 1, &r, &e))
            _exit(100);
        _exit(run(p, &r));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    place_remove(p);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- files ----------------------------------------------------------------------------------- */

static bool opens(const char *path, int flags)
{
    int fd = open(path, flags, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static int try_files(struct place *p, const struct sandbox_report *r)
{
    char made[112], moved[112];
    snprintf(made, sizeof made, "%s/made", p->inside);
    snprintf(moved, sizeof moved, "%s/moved", p->folder);
    if (!r->landlock)
        return NO_LANDLOCK;
    if (!opens(made, O_CREAT | O_RDWR) || !opens("/proc/self/stat", O_RDONLY) || truncate(made, 10))
        return 1;
    if (!SANDBOX_SANITIZER && (opens(p->outside, O_RDONLY) || opens("/etc/passwd", O_RDONLY)))
        return 2;
    if (opens(p->outside, O_WRONLY) || opens(moved, O_CREAT | O_WRONLY))
        return 3;
    if (!rename(made, moved) || !unlink(p->outside) || !mkdir(moved, 0700) ||
        !symlink("/etc/passwd", made))
        return 4;
    return 0;
}

static void only_its_files(void **state)
{
    struct place p;
    (void)state;
    int status = inside(&p, try_files);
    if (status == NO_LANDLOCK)
        skip();
    assert_int_equal(status, 0);
}

static void *thread_main(void *arg)
{
    return opens(arg, O_WRONLY) || errno != EACCES ? arg : NULL;
}

/* Threads are still made, and are closed in too; those of libraries have ended. */
static int try_thread_files(struct place *p, const struct sandbox_report *r)
{
    pthread_t thread;
    void *wrong;
    if (!r->landlock)
        return NO_LANDLOCK;
    if (r->threads_outside > TOOL_THREADS)
        return 1;
    if (pthread_create(&thread, NULL, thread_main, p->outside))
        return 2;
    pthread_join(thread, &wrong);
    return wrong ? 3 : 0;
}

static void threads_too(void **state)
{
    struct place p;
    (void)state;
    int status = inside(&p, try_thread_files);
    if (status == NO_LANDLOCK)
        skip();
    assert_int_equal(status, 0);
}

/* ---- system calls ---------------------------------------------------------------------------- */

/* -1 and errno are expected of each. */
static int run_program(void)
{
    char *const argv[] = {(char *)"/bin/true", NULL};
    return execv(argv[0], argv);
}
static int make_process(void)
{
    pid_t pid = fork();
    if (!pid)
        _exit(0);
    return pid;
}
static int make_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0);
}
static int make_unix_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM, 0);
}
static int make_packet_socket(void)
{
    return socket(AF_PACKET, SOCK_RAW, 0);
}
static int debug_parent(void)
{
    return (int)ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
}
static int signal_parent(void)
{
    return kill(getppid(), 0);
}
static int signal_parent_thread(void)
{
    return (int)syscall(SYS_tgkill, getppid(), getppid(), 0);
}
static int mount_something(void)
{
    return mount("none", "/mnt", "tmpfs", 0, NULL);
}
static int make_namespace(void)
{
    return unshare(CLONE_NEWUSER);
}
static int load_bpf(void)
{
    return (int)syscall(SYS_bpf, 0, NULL, 0);
}
static int use_keys(void)
{
    return (int)syscall(SYS_keyctl, 0, 0, 0, 0, 0);
}
static int load_module(void)
{
    return (int)syscall(SYS_init_module, NULL, 0, "");
}
static int make_ring(void)
{
    return (int)syscall(425, 1, NULL); /* io_uring_setup */
}
static int memory_with_code(void)
{
    void *at =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? -1 : 0;
}
static int memory_to_code(void)
{
    static _Alignas(65536) char page[65536];
    return mprotect(page, sizeof page, PROT_READ | PROT_EXEC);
}
static int become_root(void)
{
    return (int)syscall(SYS_setuid, 0);
}
static int type_for_user(void)
{
    return ioctl(0, TIOCSTI, "x");
}
static int newer_call(void)
{
    return (int)syscall(100000);
}

static const struct row {
    int (*call)(void);
    int why;
    bool sanitizers_need;
} calls[] = {
    {run_program, EPERM, true},         {make_process, EPERM, true},
    {make_socket, EPERM, false},        {make_unix_socket, EPERM, false},
    {make_packet_socket, EPERM, false}, {debug_parent, EPERM, true},
    {signal_parent, EPERM, false},      {signal_parent_thread, EPERM, false},
    {mount_something, EPERM, false},    {make_namespace, EPERM, false},
    {load_bpf, EPERM, false},           {use_keys, EPERM, false},
    {load_module, EPERM, false},        {make_ring, EPERM, false},
    {memory_with_code, EPERM, false},   {memory_to_code, EPERM, false},
    {become_root, EPERM, false},        {type_for_user, EPERM, false},
    {newer_call, ENOSYS, false},
};
enum { CALLS = sizeof calls / sizeof *calls };

/* The number of the first row that is not refused as it should be; 0: none. */
static int try_calls(struct place *p, const struct sandbox_report *r)
{
    (void)p;
    if (!r->seccomp)
        return NO_SECCOMP;
    if (prctl(PR_GET_SECCOMP) != SECCOMP_MODE_FILTER || !r->no_new_privileges ||
        prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        return 97;
    for (int i = 0; i < CALLS; i++) {
        if (SANDBOX_SANITIZER && calls[i].sanitizers_need)
            continue;
        errno = 0;
        if (calls[i].call() != -1 || errno != calls[i].why) {
            fprintf(stderr, "row %d: errno %d\n", i + 1, errno);
            return i + 1;
        }
    }
    return 0;
}

static void calls_are_refused(void **state)
{
    struct place p;
    (void)state;
    int status = inside(&p, try_calls);
    if (status == NO_SECCOMP)
        skip();
    assert_int_equal(status, 0);
}

/* What a process like ours does is not in the way: memory, threads, files, its own signals. */
static int try_work(struct place *p, const struct sandbox_report *r)
{
    pthread_t threads[8];
    char made[112];
    (void)r;
    snprintf(made, sizeof made, "%s/made", p->inside);
    for (int i = 0; i < 8; i++)
        if (pthread_create(&threads[i], NULL, (void *(*)(void *))(void (*)(void))malloc,
                           (void *)(1 << 20)))
            return 1;
    for (int i = 0; i < 8; i++) {
        void *block;
        pthread_join(threads[i], &block);
        free(block);
    }
    FILE *f = fopen(made, "w");
    if (!f || fputs("x", f) < 0 || fflush(f) || fsync(fileno(f)) || fclose(f))
        return 2;
    signal(SIGUSR1, SIG_IGN);
    return raise(SIGUSR1) || sysconf(_SC_NPROCESSORS_ONLN) < 1 ? 3 : 0;
}

static void work_goes_on(void **state)
{
    struct place p;
    (void)state;
    assert_int_equal(inside(&p, try_work), 0);
}

/* ---- where it may not ------------------------------------------------------------------------ */

/* As a container does that forbids Landlock and further filters. */
static int forbid(void)
{
    const struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 444, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    };
    const struct sock_fprog program = {sizeof code / sizeof *code, (struct sock_filter *)code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void forbidden_is_reported(void **state)
{
    struct place p;
    int status;
    (void)state;
    place_make(&p);
    pid_t pid = fork();
    if (!pid) {
        struct sandbox_report r;
        struct error e;
        const struct sandbox_path paths[] = {{p.inside, SANDBOX_WRITE, false}};
        if (forbid())
            _exit(NO_SECCOMP);
        if (sandbox_enter(paths, 1, &r, &e))
            _exit(1);
        _exit(r.landlock || r.seccomp || !r.landlock_lacks || !r.seccomp_lacks ||
              !strstr(r.landlock_lacks, "container") || !strstr(r.seccomp_lacks, "container"));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    place_remove(&p);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NO_SECCOMP)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* A path that is not there is a mistake of the caller's, and nothing has been given up. */
static void missing_path(void **state)
{
    int status;
    (void)state;
    pid_t pid = fork();
    if (!pid) {
        struct sandbox_report r;
        struct error e = {0};
        const struct sandbox_path paths[] = {{"/nowhere/at/all", SANDBOX_WRITE, false}};
        bool refused = sandbox_enter(paths, 1, &r, &e) && strstr(e.text, "/nowhere/at/all");
        if (!refused && !r.landlock)
            _exit(NO_LANDLOCK);
        _exit(!refused || !opens("/etc/passwd", O_RDONLY) || prctl(PR_GET_SECCOMP) != 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NO_LANDLOCK)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_its_files),        cmocka_unit_test(threads_too),
        cmocka_unit_test(calls_are_refused),     cmocka_unit_test(work_goes_on),
        cmocka_unit_test(forbidden_is_reported), cmocka_unit_test(missing_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
