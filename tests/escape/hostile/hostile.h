/* What the parts of the hostile workload share: one try, and some words. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NEW_TIME 0x80
#define NEW_CGROUP 0x02000000
#define HIGH (1L << 40) /* in the half of a word that the kernel drops */
#define COUNT(table) (sizeof(table) / sizeof *(table))

/* Make a try in a process of its own, and say what came of it. It has failed where it returns less than 0. */
void report(const char *name, long (*act)(const void *), const void *words);

void try_calls(void);
void try_processes(void);
void try_sockets(const char *abstract);
void try_files(void);
