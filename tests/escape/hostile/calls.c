/* Calls that are tried with these words and no more, by their numbers. */
#include "hostile.h"

#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>

#define SET_UID 04755
#define SET_GID 02755
#define PLAIN 0755
#define W(x) ((long)(x))

struct call {
    const char *name;
    long number, words[6];
};

static long by_number(const void *given)
{
    const struct call *c = given;
    const long *w = c->words;

    return syscall(c->number, w[0], w[1], w[2], w[3], w[4], w[5]);
}

static char zeros[4096], place[] = "/tmp", secret[] = "x";
static const struct { uint64_t flags, pidfd, child, parent, signal, more[6]; }
    cloned_user = { .flags = CLONE_NEWUSER, .signal = SIGCHLD }, cloned = { .signal = SIGCHLD },
    cloned_into = { .flags = 0x200000000ULL, .signal = SIGCHLD };
static const struct { uint64_t flags, mode, resolve; }
    how_set_uid = { O_CREAT | O_WRONLY, SET_UID, 0 }, how_plain = { O_CREAT | O_WRONLY, PLAIN, 0 };
static const uint32_t bpf_map[30] = { 1, 4, 4, 1 };

static const struct call calls[] = {
    { "unshare-mnt", SYS_unshare, { CLONE_NEWNS } },
    { "unshare-cgroup", SYS_unshare, { NEW_CGROUP } },
    { "unshare-uts", SYS_unshare, { CLONE_NEWUTS } },
    { "unshare-ipc", SYS_unshare, { CLONE_NEWIPC } },
    { "unshare-user", SYS_unshare, { CLONE_NEWUSER } },
    { "unshare-user-high", SYS_unshare, { CLONE_NEWUSER | HIGH } },
    { "unshare-pid", SYS_unshare, { CLONE_NEWPID } },
    { "unshare-net", SYS_unshare, { CLONE_NEWNET } },
    { "unshare-time", SYS_unshare, { NEW_TIME } },
    { "unshare-user-and-time", SYS_unshare, { CLONE_NEWUSER | NEW_TIME } },
    { "unshare-files", SYS_unshare, { CLONE_FILES } },
    { "unshare-directory", SYS_unshare, { CLONE_FS } },
    { "clone3-user", 435, { W(&cloned_user), sizeof cloned_user } },
    { "clone3-into-cgroup", 435, { W(&cloned_into), sizeof cloned_into } },
    { "clone3-plain", 435, { W(&cloned), sizeof cloned } },

    { "mount-tmpfs", SYS_mount, { W("none"), W(place), W("tmpfs"), 0, 0 } },
    { "mount-proc", SYS_mount, { W("none"), W(place), W("proc"), 0, 0 } },
    { "mount-cgroup", SYS_mount, { W("none"), W(place), W("cgroup"), 0, W("memory") } },
    { "mount-cgroup-named", SYS_mount, { W("none"), W(place), W("cgroup"), 0, W("none,name=evil") } },
    { "mount-cgroup2", SYS_mount, { W("none"), W(place), W("cgroup2"), 0, 0 } },
    { "mount-bind", SYS_mount, { W("/etc"), W(place), 0, MS_BIND, 0 } },
    { "mount-writable", SYS_mount, { W("none"), W("/usr"), 0, MS_REMOUNT | MS_BIND, 0 } },
    { "mount-shared", SYS_mount, { W("none"), W("/"), 0, MS_SHARED | MS_REC, 0 } },
    { "umount", SYS_umount2, { W("/etc/resolv.conf"), MNT_DETACH } },
    { "fsopen", 430, { W("tmpfs"), 0 } },
    { "fsopen-cgroup", 430, { W("cgroup"), 0 } },
    { "fsconfig", 431, { 0, 6, 0, 0, 0 } },
    { "fsmount", 432, { 0, 0, 0 } },
    { "fspick", 433, { AT_FDCWD, W("/"), 0 } },
    { "open-tree", 428, { AT_FDCWD, W("/etc"), 1 } },
    { "open-tree-attr", 467, { AT_FDCWD, W("/etc"), 1, W(zeros), 32 } },
    { "move-mount", 429, { AT_FDCWD, W("/dev/shm"), AT_FDCWD, W(place), 0 } },
    { "mount-setattr", 442, { AT_FDCWD, W("/"), 0, W(zeros), 32 } },
    { "pivot-root", SYS_pivot_root, { W(place), W(place) } },
    { "chroot", SYS_chroot, { W(place) } },
    { "name-to-handle", SYS_name_to_handle_at, { AT_FDCWD, W("/etc"), W(zeros), W(zeros + 512), 0 } },
    { "open-by-handle", SYS_open_by_handle_at, { AT_FDCWD, W(zeros), 0 } },
    { "fanotify", SYS_fanotify_init, { 0, 0 } },
    { "mkdir", SYS_mkdirat, { AT_FDCWD, W("/tmp/made"), PLAIN } },

    { "io-uring-setup", 425, { 8, W(zeros) } },
    { "io-uring-enter", 426, { -1, 1, 0, 0 } },
    { "io-uring-register", 427, { -1, 0, 0, 0 } },
    { "getpid", SYS_getpid, { 0 } },
    { "unknown-negative", -1, { 0 } },
    { "unknown-next", 500, { 0 } },
    { "unknown-far", 1 << 20, { 0 } },
#ifdef __x86_64__
    { "x32-getpid", 0x40000000 | 39, { 0 } },
    { "x32-mount", 0x40000000 | 165, { W("none"), W(place), W("tmpfs") } },
    { "x32-ptrace", 0x40000000 | 521, { PTRACE_ATTACH, 1 } },
#endif

    { "add-key", SYS_add_key, { W("user"), W("name"), W(secret), 1, -3 } },
    { "request-key", SYS_request_key, { W("user"), W("name"), 0, -3 } },
    { "keyctl-read-user", SYS_keyctl, { 11, -4, 0, 0 } },
    { "keyctl-join", SYS_keyctl, { 1, 0 } },
    { "bpf-map", SYS_bpf, { 0, W(bpf_map), sizeof bpf_map } },
    { "bpf-token", SYS_bpf, { 36, W(zeros), 16 } },
    { "perf-event", SYS_perf_event_open, { W(zeros), 0, -1, -1, 0 } },
    { "userfaultfd", SYS_userfaultfd, { 1 } },
    { "init-module", SYS_init_module, { W("\177ELF"), 4, W("") } },
    { "finit-module", SYS_finit_module, { 0, W(""), 0 } },
    { "delete-module", SYS_delete_module, { W("ext4"), O_NONBLOCK } },
    { "kexec-load", SYS_kexec_load, { 0, 0, 0, 0 } },
    { "reboot", SYS_reboot, { 0, 0, 0, 0 } },
    { "swapon", SYS_swapon, { W("/tmp/none"), 0 } },
    { "acct", SYS_acct, { W("/tmp/none") } },
    { "syslog", SYS_syslog, { 3, W(zeros), 16 } },
    { "sethostname", SYS_sethostname, { W("evil"), 4 } },
    { "clock-settime", SYS_clock_settime, { 0, W(zeros) } },
    { "adjtimex", SYS_adjtimex, { W(zeros) } },
    { "personality", SYS_personality, { 0x0040000 } },
    { "personality-asked", SYS_personality, { 0xffffffff } },

    { "trace-init", SYS_ptrace, { PTRACE_ATTACH, 1, 0, 0 } },
    { "seize-init", SYS_ptrace, { PTRACE_SEIZE, 1, 0, 0 } },
    { "descriptor-of-init", 438, { 0, 3, 0 } },
    { "compare-init", SYS_kcmp, { 1, 1, 0, 0, 0 } },
    { "advise-init", 440, { 0, 0, 0, 20, 0 } },

    { "setuid-0", SYS_setuid, { 0 } },
    { "setgid-0", SYS_setgid, { 0 } },
    { "setgroups", SYS_setgroups, { 0, 0 } },
    { "securebits", SYS_prctl, { PR_SET_SECUREBITS, 0 } },
    { "new-privileges", SYS_prctl, { PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0 } },
    { "ambient-capability", SYS_prctl, { 47, 2, CAP_SYS_ADMIN, 0, 0 } },
    { "dumpable-as-root", SYS_prctl, { PR_SET_DUMPABLE, 2, 0, 0, 0 } },
    { "dumpable", SYS_prctl, { PR_SET_DUMPABLE, 1, 0, 0, 0 } },

    { "openat-set-uid", SYS_openat, { AT_FDCWD, W("/tmp/a"), O_CREAT | O_WRONLY, SET_UID } },
    { "openat-plain", SYS_openat, { AT_FDCWD, W("/tmp/a"), O_CREAT | O_WRONLY, PLAIN } },
    { "openat-unnamed-set-uid", SYS_openat, { AT_FDCWD, W(place), O_TMPFILE | O_RDWR, SET_UID } },
    { "openat-unnamed-plain", SYS_openat, { AT_FDCWD, W(place), O_TMPFILE | O_RDWR, PLAIN } },
    { "openat-making-nothing", SYS_openat, { AT_FDCWD, W("/etc/passwd"), O_RDONLY, SET_UID } },
    { "openat2-set-uid", 437, { AT_FDCWD, W("/tmp/b"), W(&how_set_uid), sizeof how_set_uid } },
    { "openat2-plain", 437, { AT_FDCWD, W("/tmp/b"), W(&how_plain), sizeof how_plain } },
    { "mknodat-set-uid", SYS_mknodat, { AT_FDCWD, W("/tmp/c"), S_IFREG | SET_UID, 0 } },
    { "mknodat-character", SYS_mknodat, { AT_FDCWD, W("/tmp/d"), S_IFCHR | 0666, 0x101 } },
    { "mknodat-block", SYS_mknodat, { AT_FDCWD, W("/tmp/e"), S_IFBLK | 0666, 0x800 } },
    { "mknodat-pipe", SYS_mknodat, { AT_FDCWD, W("/tmp/f"), S_IFIFO | 0666, 0 } },
    { "mknodat-plain", SYS_mknodat, { AT_FDCWD, W("/tmp/g"), S_IFREG | PLAIN, 0 } },
    { "fchmodat-set-uid", SYS_fchmodat, { AT_FDCWD, W("/tmp/g"), SET_UID } },
    { "fchmodat-set-gid-high", SYS_fchmodat, { AT_FDCWD, W("/tmp/g"), SET_GID | HIGH } },
    { "fchmodat-plain", SYS_fchmodat, { AT_FDCWD, W("/tmp/g"), PLAIN } },
#ifdef __x86_64__
    { "open-set-uid", SYS_open, { W("/tmp/h"), O_CREAT | O_WRONLY, SET_UID } },
    { "open-set-uid-high", SYS_open, { W("/tmp/h"), O_CREAT | O_WRONLY | HIGH, SET_UID | HIGH } },
    { "open-plain", SYS_open, { W("/tmp/h"), O_CREAT | O_WRONLY, PLAIN } },
    { "open-making-nothing", SYS_open, { W("/etc/passwd"), O_RDONLY, SET_UID } },
    { "creat-set-uid", SYS_creat, { W("/tmp/i"), SET_UID } },
    { "creat-set-gid", SYS_creat, { W("/tmp/i"), SET_GID } },
    { "creat-plain", SYS_creat, { W("/tmp/i"), PLAIN } },
    { "mknod-set-uid", SYS_mknod, { W("/tmp/j"), S_IFREG | SET_UID, 0 } },
    { "mknod-character", SYS_mknod, { W("/tmp/k"), S_IFCHR | 0666, 0x101 } },
    { "mknod-plain", SYS_mknod, { W("/tmp/l"), S_IFREG | PLAIN, 0 } },
    { "chmod-set-uid", SYS_chmod, { W("/tmp/l"), SET_UID } },
    { "chmod-plain", SYS_chmod, { W("/tmp/l"), PLAIN } },
    { "iopl", SYS_iopl, { 3 } },
    { "ioperm", SYS_ioperm, { 0x70, 2, 1 } },
    { "modify-ldt", SYS_modify_ldt, { 1, W(zeros), 16 } },
#endif
};

void try_calls(void)
{
    size_t at;

    for (at = 0; at < COUNT(calls); at++)
        report(calls[at].name, by_number, &calls[at]);
}
