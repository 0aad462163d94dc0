/* Makes one system call by an entry that the filter must not let pass, and says what came of it.
 *
 *   foreign_calls int80 NUMBER    by the 32-bit entry, from a 64-bit program
 *   foreign_calls x32 NUMBER      with the x32 bit
 *   foreign_calls own NUMBER      by the ordinary entry
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **words)
{
    long number = count > 2 ? atol(words[2]) : 0, result;

    if (count > 1 && !strcmp(words[1], "int80")) {
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(0), "c"(0), "d"(0) : "memory");
    } else {
        if (count > 1 && !strcmp(words[1], "x32"))
            number |= 0x40000000;
        result = syscall(number, 0, 0, 0, 0, 0, 0);
        if (result < 0)
            result = -errno;
    }
    printf("%ld\n", result < 0 ? result : 0);
    return 0;
}
