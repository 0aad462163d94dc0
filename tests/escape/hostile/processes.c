/* Other processes, namespaces by ways that need more than one call, terminals, rights, and filters. */
#include "hostile.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

static char byte[] = "x";

static long enter(const void *path)
{
    int opened = open(path, O_RDONLY);

    return opened < 0 ? -1 : syscall(SYS_setns, opened, 0);
}


static int returns(void *nothing) { return nothing != NULL; }

static long clone_with_stack(const void *flags)
{
    static char stack[1 << 16] __attribute__((aligned(16)));

    return clone(returns, stack + sizeof stack, *(const int *)flags | SIGCHLD, NULL);
}

static pid_t sleeper(void)
{
    pid_t pid = fork();

    if (pid == 0)
        for (;;)
            pause();
    return pid;
}

static long look_into(const void *of)
{
    struct iovec vector = { byte, 1 };
    pid_t pid = of ? 1 : sleeper();
    long result = process_vm_readv(pid, &vector, 1, &vector, 1, 0);
    int code = errno;

    if (!of)
        kill(pid, SIGKILL);
    errno = code;
    return result;
}

static long trace_child(const void *nothing)
{
    pid_t pid = sleeper();
    long result = ptrace(PTRACE_SEIZE, pid, nothing, NULL);

    kill(pid, SIGKILL);
    return result;
}

static long enter_by_process(const void *nothing)
{
    int opened = syscall(434, 1, 0);

    return opened < 0 ? -1 : syscall(SYS_setns, opened, CLONE_NEWNET | (nothing ? 1 : 0));
}

#ifdef __x86_64__
/* A tracer puts another call in the place of one that the filter lets pass (before Linux 4.8 it went through). */
static long exchanged(const void *wanted)
{
    struct user_regs_struct registers;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        syscall(SYS_getpid);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    do {
        ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
        waitpid(pid, &status, 0);
        ptrace(PTRACE_GETREGS, pid, NULL, &registers);
    } while (!WIFEXITED(status) && registers.orig_rax != SYS_getpid);
    registers.orig_rax = *(const int *)wanted;
    registers.rdi = CLONE_NEWUSER;
    ptrace(PTRACE_SETREGS, pid, NULL, &registers);
    ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
    waitpid(pid, &status, 0);
    ptrace(PTRACE_GETREGS, pid, NULL, &registers);
    kill(pid, SIGKILL);
    errno = -(long)registers.rax;
    return (long)registers.rax < 0 ? -1 : 0;
}
static const int exchanged_for_unshare = SYS_unshare, exchanged_for_getppid = SYS_getppid;

static long int80(const void *number)
{
    long result;

    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"((long)*(const int *)number), "b"(0), "c"(0), "d"(0)
                     : "memory");
    errno = -result;
    return result < 0 ? -1 : 0;
}
#endif

/* A filter of one's own, under which a call would be let through, or done over by somebody who is told of it. */
static long unshare_under_own_filter(const void *verdict)
{
    struct sock_filter words[] = {
        { BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr) },
        { BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_unshare },
        { BPF_RET | BPF_K, 0, 0, *(const unsigned *)verdict },
        { BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW },
    };
    struct sock_fprog program = { COUNT(words), words };

    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
        return 0;
    return syscall(SYS_unshare, CLONE_NEWUSER);
}

static long install_own_filter(const void *nothing)
{
    struct sock_filter words[] = { { BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW } };
    struct sock_fprog program = { 1, words };

    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, nothing, &program);
}

static long capabilities(const void *nothing)
{
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct all[2] = { { ~0U, ~0U, 0 }, { ~0U, ~0U, 0 } };

    return nothing ? 0 : syscall(SYS_capset, &head, all);
}

/* Below 1 a crash would start what core_pattern names. */
static long lower_core_limit(const void *nothing)
{
    struct rlimit before, wanted = { 0, 0 }, after;

    getrlimit(RLIMIT_CORE, &before);
    if (syscall(SYS_prlimit64, 0, RLIMIT_CORE, &wanted, nothing) < 0 || getrlimit(RLIMIT_CORE, &after) < 0)
        return -1;
    errno = EPERM;
    return after.rlim_cur < before.rlim_cur ? 0 : -1;
}

static long find_descriptor(const void *nothing)
{
    int number;

    for (number = 3; number < 4096; number++)
        if (fcntl(number, F_GETFD) >= 0)
            return nothing != NULL;
    return -1;
}

static long type_in(const void *request)
{
    static char window[64] = "x";
    int terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY);

    return terminal < 0 ? 0 : syscall(SYS_ioctl, terminal, *(const long *)request, window);
}

void try_processes(void)
{
    static const struct { const char *name; int flags; } clones[] = {
        { "clone-mnt", CLONE_NEWNS }, { "clone-cgroup", NEW_CGROUP }, { "clone-uts", CLONE_NEWUTS },
        { "clone-ipc", CLONE_NEWIPC }, { "clone-user", CLONE_NEWUSER }, { "clone-pid", CLONE_NEWPID },
        { "clone-net", CLONE_NEWNET }, { "clone-user-and-net", CLONE_NEWUSER | CLONE_NEWNET },
        { "clone-vm-and-user", CLONE_VM | CLONE_VFORK | CLONE_NEWUSER }, { "clone-plain", 0 },
        { "clone-vm", CLONE_VM | CLONE_VFORK },
    };
    static const char *const spaces[] = { "mnt", "net", "user", "pid", "ipc", "uts", "cgroup", "time" };
    static const struct { const char *name; unsigned verdict; } filters[] = {
        { "own-filter-allows", SECCOMP_RET_ALLOW }, { "own-filter-logs", 0x7ffc0000U },
        { "own-filter-traces", SECCOMP_RET_TRACE }, { "own-filter-tells", 0x7fc00000U },
    };
    static const struct { const char *name; long request; } requests[] = {
        { "terminal-typed-into", 0x5412 }, { "terminal-typed-into-high", 0x5412 | HIGH },
        { "terminal-console", 0x541C }, { "terminal-discipline", 0x5423 }, { "terminal-size", 0x5413 },
    };
    char name[64], path[64];
    size_t at;

    for (at = 0; at < COUNT(clones); at++)
        report(clones[at].name, clone_with_stack, &clones[at].flags);
    for (at = 0; at < COUNT(spaces); at++) {
        snprintf(name, sizeof name, "enter-own-%s", spaces[at]);
        snprintf(path, sizeof path, "/proc/self/ns/%s", spaces[at]);
        report(name, enter, path);
    }
    for (at = 0; at < COUNT(filters); at++)
        report(filters[at].name, unshare_under_own_filter, &filters[at].verdict);
    for (at = 0; at < COUNT(requests); at++)
        report(requests[at].name, type_in, &requests[at].request);
    report("own-filter-installed", install_own_filter, NULL);
    report("enter-by-process", enter_by_process, NULL);
    report("memory-of-init", look_into, "1");
    report("memory-of-a-child", look_into, NULL);
    report("trace-a-child", trace_child, NULL);
    report("capabilities", capabilities, NULL);
    report("core-limit-lowered", lower_core_limit, NULL);
    report("descriptors", find_descriptor, NULL);
#ifdef __x86_64__
    report("exchanged-for-unshare", exchanged, &exchanged_for_unshare);
    report("exchanged-for-getppid", exchanged, &exchanged_for_getppid);
    report("int80-getpid", int80, &(int){ 20 });
    report("int80-mount", int80, &(int){ 21 });
    report("int80-socketcall", int80, &(int){ 102 });
    report("int80-io-uring", int80, &(int){ 425 });
#endif
}
