/* Files that are not the workload's, and some that are. */
#include "hostile.h"


static const char *const written[] = {
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/fs/binfmt_misc/register", "/proc/sys/user/max_user_namespaces", "/proc/sysrq-trigger",
    "/proc/self/timens_offsets", "/proc/self/uid_map", "/proc/1/oom_score_adj", "/proc/1/coredump_filter",
    "/proc/1/mem", "/proc/1/root/etc/hosts", "/etc/hosts", "/dev/mem", "/dev/kmsg", "/dev/kvm",
    "/dev/net/tun", "/dev/fuse", "/dev/vsock", "/dev/userfaultfd", "/dev/vda", "/dev/sda", "/dev/loop-control",
    "/sys/kernel/uevent_helper", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/release_agent",
    "/sys/fs/cgroup/notify_on_release", "/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/memory/tasks",
    "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/unified/cgroup.procs",
    "/sys/fs/cgroup/pids/cgroup.procs", "/sys/fs/cgroup/devices/devices.allow",
    "/sys/fs/cgroup/cgroup.subtree_control", "/sys/fs/cgroup/systemd/release_agent",
};
static const char *const looked_into[] = {
    "/proc/1/mem", "/proc/1/maps", "/proc/1/environ", "/proc/1/auxv", "/proc/1/syscall", "/proc/1/ns/net",
    "/proc/1/fd/0", "/proc/1/root/etc/passwd", "/proc/1/cwd/etc/passwd", "/proc/1/exe", "/proc/kcore",
};
static const char *const own[] = { "/proc/self/maps", "/proc/self/environ", "/proc/self/status", "/etc/passwd" };

static long write_to(const void *path)
{
    int opened = open(path, O_WRONLY);

    return opened < 0 ? -1 : write(opened, "x", 1);
}

static long open_to_read(const void *path)
{
    char byte;
    int opened = open(path, O_RDONLY);

    return opened < 0 ? -1 : read(opened, &byte, 0);
}

void try_files(void)
{
    char name[128];
    size_t at;

    for (at = 0; at < COUNT(written); at++) {
        snprintf(name, sizeof name, "write:%s", written[at]);
        report(name, write_to, written[at]);
    }
    for (at = 0; at < COUNT(looked_into); at++) {
        snprintf(name, sizeof name, "read:%s", looked_into[at]);
        report(name, open_to_read, looked_into[at]);
    }
    for (at = 0; at < COUNT(own); at++) {
        snprintf(name, sizeof name, "own:%s", own[at]);
        report(name, open_to_read, own[at]);
    }
    report("own:/dev/null", write_to, "/dev/null");
    report("own:/proc/self/comm", write_to, "/proc/self/comm");
}
