/* Sockets of every family and kind, and what can be asked of those that open. */
#include "hostile.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/un.h>

struct kind {
    int family, type, protocol;
};

static long make_socket(const void *kind)
{
    const struct kind *k = kind;

    return syscall(SYS_socket, k->family, k->type, k->protocol);
}

static long make_pair(const void *kind)
{
    const struct kind *k = kind;
    int both[2];

    return syscall(SYS_socketpair, k->family, k->type, k->protocol, both);
}

static long set_option(const void *kind)
{
    const struct kind *k = kind;
    int one = 1;

    return setsockopt(socket(AF_INET, SOCK_DGRAM, 0), k->family, k->type, &one, sizeof one);
}

static long route(const void *wanted)
{
    struct { struct nlmsghdr head; struct ifinfomsg link; } said = {
        { sizeof said, *(const int *)wanted, NLM_F_REQUEST | NLM_F_ACK, 1, 0 },
        { .ifi_index = 1, .ifi_change = 1 },
    };
    union { struct nlmsghdr head; char bytes[1 << 14]; } heard;
    int talking = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

    if (send(talking, &said, sizeof said, 0) < 0 || recv(talking, &heard, sizeof heard, 0) < 0)
        return -1;
    errno = heard.head.nlmsg_type == NLMSG_ERROR ? -((struct nlmsgerr *)NLMSG_DATA(&heard.head))->error : 0;
    return errno ? -1 : 0;
}
static const int link_down = RTM_NEWLINK, link_gone = RTM_DELLINK, link_asked = RTM_GETLINK;

static socklen_t address_of(struct sockaddr_un *address, const char *name)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    strncpy(address->sun_path + 1, name, sizeof address->sun_path - 2);
    return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
}

static long meet_abstract(const void *name)
{
    struct sockaddr_un address;
    socklen_t length = address_of(&address, name);

    return connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&address, length);
}

static long meet_own_abstract(const void *name)
{
    struct sockaddr_un address;
    socklen_t length = address_of(&address, name);
    int listening = socket(AF_UNIX, SOCK_STREAM, 0);

    if (bind(listening, (void *)&address, length) < 0 || listen(listening, 1) < 0)
        return -1;
    return meet_abstract(name);
}

void try_sockets(const char *abstract)
{
    static const struct { const char *name; struct kind kind; } pairs[] = {
        { "pair-unix", { AF_UNIX, SOCK_STREAM, 0 } }, { "pair-inet", { AF_INET, SOCK_STREAM, 0 } },
        { "pair-tipc", { 30, SOCK_SEQPACKET, 0 } },
    }, options[] = {
        { "option-transparent", { 0, 19, 0 } }, { "option-mark", { SOL_SOCKET, 36, 0 } },
        { "option-big-buffer", { SOL_SOCKET, 33, 0 } }, { "option-reuse", { SOL_SOCKET, SO_REUSEADDR, 0 } },
    };
    static const int types[] = { 1, 2, 3, 4, 5, 6, 10 };
    static const int protocols[] = { 1, 6, 17, 33, 58, 132, 136, 255, 262 };
    char name[64];
    size_t at, family;

    for (family = 0; family < 48; family++)
        for (at = 0; at < COUNT(types); at++) {
            snprintf(name, sizeof name, "socket-%zu-%d", family, types[at]);
            report(name, make_socket, &(struct kind){ family, types[at], 0 });
        }
    for (at = 0; at < COUNT(protocols); at++) {
        snprintf(name, sizeof name, "raw-%d", protocols[at]);
        report(name, make_socket, &(struct kind){ AF_INET, SOCK_RAW | SOCK_CLOEXEC, protocols[at] });
        snprintf(name, sizeof name, "stream-%d", protocols[at]);
        report(name, make_socket, &(struct kind){ AF_INET6, SOCK_STREAM, protocols[at] });
    }
    for (at = 0; at < 24; at++) {
        snprintf(name, sizeof name, "netlink-%zu", at);
        report(name, make_socket, &(struct kind){ AF_NETLINK, SOCK_RAW, at });
    }
    for (at = 0; at < COUNT(pairs); at++)
        report(pairs[at].name, make_pair, &pairs[at].kind);
    for (at = 0; at < COUNT(options); at++)
        report(options[at].name, set_option, &options[at].kind);
    report("route-link-down", route, &link_down);
    report("route-link-gone", route, &link_gone);
    report("route-link-asked", route, &link_asked);
    report("abstract-of-the-host", meet_abstract, abstract);
    report("abstract-own", meet_own_abstract, "own");
}
