/* A hostile workload that knows exactly how it is held: tries each way out, and says what came of each.
 *
 *   hostile NAME    NAME is an abstract UNIX socket of the host's, without its leading NUL
 *
 * Each try is made in a process of its own. A line for each goes to stdout: its name, a blank, and 0 where it
 * worked, the number of the error where not, or -N where signal N ended it. It judges nothing: a test does.
 *
 * Calls are made by number, past whatever a C library would do or refuse first.
 */
#include <stdlib.h>
#include <sys/wait.h>

#include "hostile.h"


void report(const char *name, long (*act)(const void *), const void *words)
{
    int status;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        umask(0);
        errno = 0;
        _exit(act(words) < 0 ? errno : 0);
    }
    waitpid(pid, &status, 0);
    printf("%s %d\n", name, WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
}

int main(int count, char **words)
{
    try_calls();
    try_processes();
    try_sockets(count > 1 ? words[1] : "nobody");
    try_files();
    return 0;
}
