/* Messages of the pager: no stdio and no malloc, since the handler may need them. */
#include "pager.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *decimal(uint64_t number, char text[NUMBER_TEXT]) {
    char *p = text + NUMBER_TEXT - 1;
    *p = 0;
    do
        *--p = (char)('0' + number % 10);
    while (number /= 10);
    return p;
}

const char *hexadecimal(uint64_t number, char text[NUMBER_TEXT]) {
    char *p = text + NUMBER_TEXT - 1;
    *p = 0;
    do
        *--p = "0123456789abcdef"[number % 16];
    while (number /= 16);
    return p;
}

static size_t append(char *line, size_t used, size_t room, const char *part) {
    size_t length = strlen(part);
    if (length > room - used)
        length = room - used;
    memcpy(line + used, part, length);
    return used + length;
}

/* One write() a message, so that lines of several processes do not mix; then SIGABRT, which a core dump, faulthandler
 * and Lambda's log all tell from a crash of the code that was running. */
_Noreturn void fatal(const char *first, ...) {
    static char line[PATH_BYTES + 1024]; /* static: the handler may be on a small alternate stack */
    size_t used = append(line, 0, sizeof line - 1, "torch layer: ");
    va_list more;
    va_start(more, first);
    for (const char *part = first; part; part = va_arg(more, const char *))
        used = append(line, used, sizeof line - 1, part);
    va_end(more);
    line[used++] = '\n';
    for (size_t sent = 0; sent < used;) {
        ssize_t n = write(STDERR_FILENO, line + sent, used - sent);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    abort();
}
