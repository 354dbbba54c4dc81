/* sandbox_seccomp.c: the filter of system calls.
 *
 * A list of what is refused, not of what is allowed: the C library, OpenBLAS, SQLite and GnuTLS use
 * other calls in every version, and a daemon that dies of an update is no safer. Refused is what
 * starts programs or processes, looks into other processes, opens sockets, changes the machine, its
 * mounts or our rights, loads code into the kernel, or has been a door into it (io_uring, bpf,
 * userfaultfd, keyctl, perf). They fail with EPERM. Calls that are newer than this list fail with
 * ENOSYS, as on an older kernel: nothing that we need depends on them. clone3 too, whose arguments
 * a filter cannot see; the C library then makes threads with clone, which may make nothing else.
 *
 * Memory must not be writable and executable, nor become executable. seccomp(2). */
#define _GNU_SOURCE /* CLONE_THREAD */
#include "sandbox.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define OUR_ARCH AUDIT_ARCH_RISCV64
#endif

/* From 424 on a call has the same number on every architecture. */
enum {
    CALL_PIDFD_SEND_SIGNAL = 424,
    CALL_IO_URING_SETUP = 425,
    CALL_IO_URING_ENTER = 426,
    CALL_IO_URING_REGISTER = 427,
    CALL_OPEN_TREE = 428,
    CALL_MOVE_MOUNT = 429,
    CALL_FSOPEN = 430,
    CALL_FSCONFIG = 431,
    CALL_FSMOUNT = 432,
    CALL_FSPICK = 433,
    CALL_PIDFD_OPEN = 434,
    CALL_CLONE3 = 435,
    CALL_PIDFD_GETFD = 438,
    CALL_PROCESS_MADVISE = 440,
    CALL_MOUNT_SETATTR = 442,
    CALL_QUOTACTL_FD = 443,
    CALL_MEMFD_SECRET = 447,
    CALL_PROCESS_MRELEASE = 448,
    CALL_LAST_KNOWN = 462, /* mseal, Linux 6.10 */
};

enum { SANITIZERS_NEED = 1 };

static const struct row {
    int call;
    int flags;
} refused[] = {
    /* programs and processes */
    {__NR_execve, SANITIZERS_NEED},
    {__NR_execveat, SANITIZERS_NEED},
#ifdef __NR_fork
    {__NR_fork, SANITIZERS_NEED},
    {__NR_vfork, SANITIZERS_NEED},
#endif
    {__NR_ptrace, SANITIZERS_NEED},
    {__NR_process_vm_readv, SANITIZERS_NEED},
    {__NR_process_vm_writev, 0},
    {__NR_kcmp, 0},
    {__NR_kill, 0},
    {__NR_tkill, 0},
    {__NR_rt_sigqueueinfo, 0},
    {__NR_rt_tgsigqueueinfo, 0},
    {CALL_PIDFD_SEND_SIGNAL, 0},
    {CALL_PIDFD_OPEN, 0},
    {CALL_PIDFD_GETFD, 0},
    {CALL_PROCESS_MADVISE, 0},
    {CALL_PROCESS_MRELEASE, 0},
    {__NR_memfd_create, 0},
    {CALL_MEMFD_SECRET, 0},
    /* sockets: the one that listens is there, and connections are accepted from it */
    {__NR_socket, 0},
    {__NR_socketpair, SANITIZERS_NEED},
    {__NR_connect, 0},
    {__NR_bind, 0},
    {__NR_listen, 0},
    /* mounts and namespaces */
    {__NR_mount, 0},
    {__NR_umount2, 0},
    {__NR_pivot_root, 0},
    {__NR_chroot, 0},
    {__NR_setns, 0},
    {__NR_unshare, 0},
    {CALL_OPEN_TREE, 0},
    {CALL_MOVE_MOUNT, 0},
    {CALL_FSOPEN, 0},
    {CALL_FSCONFIG, 0},
    {CALL_FSMOUNT, 0},
    {CALL_FSPICK, 0},
    {CALL_MOUNT_SETATTR, 0},
    {__NR_name_to_handle_at, 0},
    {__NR_open_by_handle_at, 0},
    {__NR_fanotify_init, 0},
    {__NR_mknodat, 0},
#ifdef __NR_mknod
    {__NR_mknod, 0},
#endif
    /* doors into the kernel */
    {__NR_bpf, 0},
    {__NR_perf_event_open, 0},
    {__NR_userfaultfd, 0},
    {CALL_IO_URING_SETUP, 0},
    {CALL_IO_URING_ENTER, 0},
    {CALL_IO_URING_REGISTER, 0},
    {__NR_keyctl, 0},
    {__NR_add_key, 0},
    {__NR_request_key, 0},
    {__NR_init_module, 0},
    {__NR_finit_module, 0},
    {__NR_delete_module, 0},
    {__NR_kexec_load, 0},
#ifdef __NR_kexec_file_load
    {__NR_kexec_file_load, 0},
#endif
    {__NR_personality, SANITIZERS_NEED},
#ifdef __NR_iopl
    {__NR_iopl, 0},
    {__NR_ioperm, 0},
    {__NR_modify_ldt, 0},
#endif
    /* the machine */
    {__NR_reboot, 0},
    {__NR_swapon, 0},
    {__NR_swapoff, 0},
    {__NR_acct, 0},
    {__NR_quotactl, 0},
    {CALL_QUOTACTL_FD, 0},
    {__NR_syslog, 0},
    {__NR_vhangup, 0},
    {__NR_sethostname, 0},
    {__NR_setdomainname, 0},
    {__NR_settimeofday, 0},
    {__NR_clock_settime, 0},
    {__NR_adjtimex, 0},
    {__NR_clock_adjtime, 0},
    /* our rights */
    {__NR_setuid, 0},
    {__NR_setgid, 0},
    {__NR_setreuid, 0},
    {__NR_setregid, 0},
    {__NR_setresuid, 0},
    {__NR_setresgid, 0},
    {__NR_setfsuid, 0},
    {__NR_setfsgid, 0},
    {__NR_setgroups, 0},
    {__NR_capset, 0},
};
enum { REFUSED = sizeof refused / sizeof *refused };

/* Calls that are refused when bits of an argument are, or are not, set. */
static const struct bits {
    int call, argument;
    unsigned mask;
    bool refuse_unset; /* refused when none of the mask is set, else when all of it is */
    int flags;
} bits[] = {
    {__NR_clone, 0, CLONE_THREAD, true, SANITIZERS_NEED},
    {__NR_mmap, 2, PROT_WRITE | PROT_EXEC, false, 0},
    {__NR_mprotect, 2, PROT_EXEC, false, 0},
#ifdef __NR_pkey_mprotect
    {__NR_pkey_mprotect, 2, PROT_EXEC, false, 0},
#endif
};
enum { BITS = sizeof bits / sizeof *bits };

/* Instructions: the begin, rows, bits, put_values and the end. */
enum { MOST = 7 + 2 * REFUSED + 6 * BITS + 10 + 1 };

struct filter {
    struct sock_filter code[MOST];
    int n;
};

#define LOW_WORD(argument)                                                                         \
    (offsetof(struct seccomp_data, args) + 8 * (size_t)(argument) +                                \
     4 * (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__))

static void put(struct filter *f, unsigned code, unsigned k, unsigned yes, unsigned no)
{
    f->code[f->n++] = (struct sock_filter){(uint16_t)code, (uint8_t)yes, (uint8_t)no, k};
}

static void put_load(struct filter *f, size_t offset)
{
    put(f, BPF_LD | BPF_W | BPF_ABS, (unsigned)offset, 0, 0);
}

static void put_return(struct filter *f, unsigned what)
{
    put(f, BPF_RET | BPF_K, what, 0, 0);
}

static void put_refuse(struct filter *f)
{
    put_return(f, SECCOMP_RET_ERRNO | EPERM);
}

static bool left_out(int flags)
{
    return SANDBOX_SANITIZER && flags & SANITIZERS_NEED;
}

/* The number of the call is in the accumulator, before and, when it is another call, after. */
static void put_bits(struct filter *f, const struct bits *b)
{
    put(f, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)b->call, 0, b->refuse_unset ? 4 : 5);
    put_load(f, LOW_WORD(b->argument));
    if (b->refuse_unset) {
        put(f, BPF_JMP | BPF_JSET | BPF_K, b->mask, 1, 0);
    } else {
        put(f, BPF_ALU | BPF_AND | BPF_K, b->mask, 0, 0);
        put(f, BPF_JMP | BPF_JEQ | BPF_K, b->mask, 0, 1);
    }
    put_refuse(f);
    put_return(f, SECCOMP_RET_ALLOW);
}

/* Signals go to threads of ours only; what is written to a terminal does not come from it. */
static void put_values(struct filter *f)
{
    put(f, BPF_JMP | BPF_JEQ | BPF_K, __NR_tgkill, 0, 4);
    put_load(f, LOW_WORD(0));
    put(f, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)getpid(), 1, 0);
    put_refuse(f);
    put_return(f, SECCOMP_RET_ALLOW);
    put(f, BPF_JMP | BPF_JEQ | BPF_K, __NR_ioctl, 0, 4);
    put_load(f, LOW_WORD(1));
    put(f, BPF_JMP | BPF_JEQ | BPF_K, TIOCSTI, 0, 1);
    put_refuse(f);
    put_return(f, SECCOMP_RET_ALLOW);
}

static void filter_make(struct filter *f)
{
#ifdef OUR_ARCH
    put_load(f, offsetof(struct seccomp_data, arch));
    put(f, BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0);
    put_return(f, SECCOMP_RET_KILL_PROCESS);
#endif
    put_load(f, offsetof(struct seccomp_data, nr));
    /* This also refuses x86-64's second set of numbers, which begins at 2^30. */
    put(f, BPF_JMP | BPF_JGT | BPF_K, CALL_LAST_KNOWN, 1, 0);
    put(f, BPF_JMP | BPF_JEQ | BPF_K, CALL_CLONE3, 0, 1);
    put_return(f, SECCOMP_RET_ERRNO | ENOSYS);
    for (int i = 0; i < REFUSED; i++)
        if (!left_out(refused[i].flags)) {
            put(f, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)refused[i].call, 0, 1);
            put_refuse(f);
        }
    for (int i = 0; i < BITS; i++)
        if (!left_out(bits[i].flags))
            put_bits(f, &bits[i]);
    put_values(f);
    put_return(f, SECCOMP_RET_ALLOW);
}

int sandbox_seccomp(void)
{
    struct filter f = {.n = 0};
    filter_make(&f);
    struct sock_fprog program = {(unsigned short)f.n, f.code};
    /* All threads, also those that a library had started. It fails where one has a filter of its
     * own; then ours is for this thread and those that it makes. */
    if (!syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program))
        return 0;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) ? errno : 0;
}
