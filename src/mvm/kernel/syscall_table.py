"""Every system call that Linux had up to 6.18: its numbers, and what the filter does with it.

Owns that table and nothing else; `seccomp` makes the filter of it. A call that is not here is unknown, and is
answered as by a kernel that does not have it (ENOSYS): newer ones are closed until somebody has looked at
them.

How to read it: `name:x86_64:aarch64`, `-` where a machine has no such call. From 424 on the numbers are the
same everywhere. They stand in arch/x86/entry/syscalls/syscall_64.tbl and scripts/syscall.tbl of Linux; a test
compares them with the headers of the machine that it runs on.
"""

from __future__ import annotations

from typing import NamedTuple

ALLOWED, RULED, FORBIDDEN, MISSING = "allowed", "ruled", "forbidden", "missing"
MACHINES = ("x86_64", "aarch64")


class Group(NamedTuple):
    """Calls that are treated alike, for the same reason.

    Attributes:
        verdict: ALLOWED; RULED: by its arguments (`seccomp`); FORBIDDEN: EPERM, as to any user without
            capabilities; MISSING: ENOSYS, on which programs fall back to something else.
        reason: one sentence.
        calls: `name:x86_64:aarch64`, separated by blanks.
    """

    verdict: str
    reason: str
    calls: str


GROUPS = (
    Group(
        ALLOWED,
        "Files and directories, as far as the view and Landlock let them be reached.",
        """
        read:0:63 write:1:64 pread64:17:67 pwrite64:18:68 readv:19:65 writev:20:66 preadv:295:69
        pwritev:296:70 preadv2:327:286 pwritev2:328:287 close:3:57 close_range:436:436 lseek:8:62
        stat:4:- fstat:5:80 lstat:6:- newfstatat:262:79
        statx:332:291 statfs:137:43 fstatfs:138:44 access:21:- faccessat:269:48 faccessat2:439:439
        getdents:78:- getdents64:217:61 getcwd:79:17 chdir:80:49 fchdir:81:50 dup:32:23 dup2:33:-
        dup3:292:24 fcntl:72:25 flock:73:32 fsync:74:82 fdatasync:75:83 sync:162:81 syncfs:306:267
        sync_file_range:277:84 truncate:76:45 ftruncate:77:46 fallocate:285:47 fadvise64:221:223
        readahead:187:213 copy_file_range:326:285 sendfile:40:71 splice:275:76 tee:276:77 vmsplice:278:75
        pipe:22:- pipe2:293:59 rename:82:- renameat:264:38 renameat2:316:276 mkdir:83:- mkdirat:258:34
        rmdir:84:- link:86:- linkat:265:37 unlink:87:- unlinkat:263:35 symlink:88:- symlinkat:266:36
        readlink:89:- readlinkat:267:78 chown:92:- fchown:93:55 lchown:94:- fchownat:260:54
        umask:95:166 utime:132:- utimes:235:- utimensat:280:88 futimesat:261:- setxattr:188:5
        lsetxattr:189:6 fsetxattr:190:7 setxattrat:463:463 getxattr:191:8 lgetxattr:192:9
        fgetxattr:193:10 getxattrat:464:464 listxattr:194:11 llistxattr:195:12 flistxattr:196:13
        listxattrat:465:465 removexattr:197:14 lremovexattr:198:15 fremovexattr:199:16
        removexattrat:466:466 file_getattr:468:468 file_setattr:469:469 inotify_init:253:-
        inotify_init1:294:26 inotify_add_watch:254:27 inotify_rm_watch:255:28 memfd_create:319:279
        memfd_secret:447:447 io_setup:206:0 io_destroy:207:1 io_getevents:208:4 io_pgetevents:333:292
        io_submit:209:2 io_cancel:210:3 cachestat:451:451 statmount:457:457 listmount:458:458
        """,
    ),
    Group(
        ALLOWED,
        "Waiting.",
        """
        poll:7:- ppoll:271:73 select:23:- pselect6:270:72 epoll_create:213:- epoll_create1:291:20
        epoll_ctl:233:21 epoll_wait:232:- epoll_pwait:281:22 epoll_pwait2:441:441 eventfd:284:-
        eventfd2:290:19 signalfd:282:- signalfd4:289:74 timerfd_create:283:85 timerfd_settime:286:86
        timerfd_gettime:287:87 pause:34:-
        """,
    ),
    Group(
        ALLOWED,
        "Memory.",
        """
        mmap:9:222 munmap:11:215 mprotect:10:226 mremap:25:216 msync:26:227 mincore:27:232 madvise:28:233
        brk:12:214 mlock:149:228 mlock2:325:284 munlock:150:229 mlockall:151:230 munlockall:152:231
        remap_file_pages:216:234 pkey_mprotect:329:288 pkey_alloc:330:289 pkey_free:331:290
        map_shadow_stack:453:453 mseal:462:462 membarrier:324:283
        """,
    ),
    Group(
        ALLOWED,
        "Processes, threads, signals, within the pid namespace. What ptrace changes is filtered (Linux 4.8).",
        """
        fork:57:- vfork:58:- execve:59:221 execveat:322:281 exit:60:93 exit_group:231:94 wait4:61:260
        waitid:247:95 kill:62:129 tkill:200:130 tgkill:234:131 getpid:39:172 getppid:110:173
        gettid:186:178 getpgid:121:155 setpgid:109:154 getpgrp:111:- getsid:124:156 setsid:112:157
        pidfd_open:434:434 pidfd_send_signal:424:424 process_mrelease:448:448 ptrace:101:117
        process_vm_readv:310:270 process_vm_writev:311:271 futex:202:98 futex_waitv:449:449
        futex_wait:455:455 futex_wake:454:454 futex_requeue:456:456 set_robust_list:273:99
        get_robust_list:274:100 set_tid_address:218:96 rseq:334:293 rt_sigaction:13:134
        rt_sigprocmask:14:135 rt_sigpending:127:136 rt_sigreturn:15:139 rt_sigsuspend:130:133
        rt_sigtimedwait:128:137 rt_sigqueueinfo:129:138 rt_tgsigqueueinfo:297:240 sigaltstack:131:132
        restart_syscall:219:128 arch_prctl:158:- prctl:157:167 seccomp:317:277
        landlock_create_ruleset:444:444 landlock_add_rule:445:445 landlock_restrict_self:446:446
        lsm_get_self_attr:459:459 lsm_list_modules:461:461
        """,
    ),
    Group(
        ALLOWED,
        "Who the process is and what it may use: in its user namespace, where it has no capability.",
        """
        getuid:102:174 geteuid:107:175 getgid:104:176 getegid:108:177 getresuid:118:148 getresgid:120:150
        getgroups:115:158 setuid:105:146 setgid:106:144 setreuid:113:145 setregid:114:143
        setresuid:117:147 setresgid:119:149 setfsuid:122:151 setfsgid:123:152 setgroups:116:159
        capget:125:90 capset:126:91 getrlimit:97:163 getrusage:98:165 getpriority:140:141
        setpriority:141:140 ioprio_get:252:31 ioprio_set:251:30 sched_yield:24:124
        sched_getparam:143:121 sched_setparam:142:118 sched_getscheduler:145:120
        sched_setscheduler:144:119 sched_getattr:315:275 sched_setattr:314:274 sched_getaffinity:204:123
        sched_setaffinity:203:122 sched_get_priority_max:146:125 sched_get_priority_min:147:126
        sched_rr_get_interval:148:127 getcpu:309:168 uname:63:160 sysinfo:99:179 times:100:153
        getrandom:318:278
        """,
    ),
    Group(
        ALLOWED,
        "Reading clocks, and timers.",
        """
        time:201:- gettimeofday:96:169 clock_gettime:228:113 clock_getres:229:114 clock_nanosleep:230:115
        nanosleep:35:101 alarm:37:- getitimer:36:102 setitimer:38:103 timer_create:222:107
        timer_settime:223:110 timer_gettime:224:108 timer_getoverrun:225:109 timer_delete:226:111
        """,
    ),
    Group(
        ALLOWED,
        "Sockets, once `socket` has let one be made.",
        """
        bind:49:200 listen:50:201 accept:43:202 accept4:288:242 connect:42:203 getsockname:51:204
        getpeername:52:205 getsockopt:55:209 setsockopt:54:208 shutdown:48:210 sendto:44:206
        sendmsg:46:211 sendmmsg:307:269 recvfrom:45:207 recvmsg:47:212 recvmmsg:299:243
        """,
    ),
    Group(
        ALLOWED,
        "System V and POSIX queues, semaphores and shared memory, in the ipc namespace.",
        """
        msgget:68:186 msgsnd:69:189 msgrcv:70:188 msgctl:71:187 semget:64:190 semop:65:193
        semtimedop:220:192 semctl:66:191 shmget:29:194 shmat:30:196 shmdt:67:197 shmctl:31:195
        mq_open:240:180 mq_unlink:241:181 mq_timedsend:242:182 mq_timedreceive:243:183 mq_notify:244:184
        mq_getsetattr:245:185
        """,
    ),
    Group(
        ALLOWED,
        "The kernel's own, where the host's root traces a function: refusing them kills the program.",
        """
        uretprobe:335:- uprobe:336:-
        """,
    ),
    Group(
        RULED,
        "Allowed or refused by their arguments (`_RULES`).",
        """
        socket:41:198 socketpair:53:199 clone:56:220 unshare:272:97 personality:135:92 ioctl:16:29
        open:2:- openat:257:56 creat:85:- mknod:133:- mknodat:259:33 chmod:90:- fchmod:91:52 fchmodat:268:53
        fchmodat2:452:452 setrlimit:160:164 prlimit64:302:261
        """,
    ),
    Group(
        FORBIDDEN,
        "Other namespaces, other roots, mounts.",
        """
        setns:308:268 chroot:161:51 pivot_root:155:41 mount:165:40 umount2:166:39 open_tree:428:428
        open_tree_attr:467:467 move_mount:429:429 fsopen:430:430 fsconfig:431:431 fsmount:432:432
        fspick:433:433 mount_setattr:442:442 quotactl:179:60 quotactl_fd:443:443 fanotify_init:300:262
        fanotify_mark:301:263 name_to_handle_at:303:264 open_by_handle_at:304:265
        """,
    ),
    Group(
        FORBIDDEN,
        "The machine itself: its modules, memory, clock, name, log and power.",
        """
        init_module:175:105 finit_module:313:273 delete_module:176:106 kexec_load:246:104
        kexec_file_load:320:294 reboot:169:142 swapon:167:224 swapoff:168:225 acct:163:89 syslog:103:116
        iopl:172:- ioperm:173:- vhangup:153:58 settimeofday:164:170 clock_settime:227:112
        adjtimex:159:171 clock_adjtime:305:266 sethostname:170:161 setdomainname:171:162
        lookup_dcookie:212:18
        """,
    ),
    Group(
        FORBIDDEN,
        "Programs in the kernel, and watching it.",
        """
        bpf:321:280 perf_event_open:298:241 userfaultfd:323:282
        """,
    ),
    Group(
        FORBIDDEN,
        "Reaching into other processes beyond what ptrace checks.",
        """
        kcmp:312:272 pidfd_getfd:438:438 process_madvise:440:440
        """,
    ),
    Group(
        MISSING,
        "So that libc falls back to clone, whose flags a filter can see: those of clone3 lie in memory.",
        """
        clone3:435:435
        """,
    ),
    Group(
        MISSING,
        "So that programs fall back to openat, whose mode a filter can see.",
        """
        openat2:437:437
        """,
    ),
    Group(
        MISSING,
        "It opens sockets and files without a system call that a filter would see.",
        """
        io_uring_setup:425:425 io_uring_enter:426:426 io_uring_register:427:427
        """,
    ),
    Group(
        MISSING,
        "As in a kernel that was built without keyrings.",
        """
        add_key:248:217 request_key:249:218 keyctl:250:219
        """,
    ),
    Group(
        MISSING,
        "As in a kernel for machines with one memory.",
        """
        mbind:237:235 set_mempolicy:238:237 get_mempolicy:239:236 set_mempolicy_home_node:450:450
        migrate_pages:256:238 move_pages:279:239
        """,
    ),
    Group(
        MISSING,
        "As in a kernel without 16-bit programs, and without a choice of security modules.",
        """
        modify_ldt:154:- lsm_set_self_attr:460:460
        """,
    ),
    Group(
        MISSING,
        "Gone from Linux, or never there.",
        """
        _sysctl:156:- afs_syscall:183:- create_module:174:- epoll_ctl_old:214:- epoll_wait_old:215:-
        get_kernel_syms:177:- get_thread_area:211:- getpmsg:181:- nfsservctl:180:42 putpmsg:182:-
        query_module:178:- security:185:- set_thread_area:205:- sysfs:139:- tuxcall:184:- uselib:134:-
        ustat:136:- vserver:236:-
        """,
    ),
)


def numbers(machine: str, verdict: str) -> dict[str, int]:
    """Return the calls with one verdict, by name, with their numbers on `machine` (of MACHINES)."""
    column = 1 + MACHINES.index(machine)
    words = (call.split(":") for group in GROUPS if group.verdict == verdict for call in group.calls.split())
    return {word[0]: int(word[column]) for word in words if word[column] != "-"}
