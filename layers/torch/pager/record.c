/* The recording variant: every touched page is appended to a file, one line each, when it is touched. So the record is
 * complete whatever way a process ends (exit, _exit, exec, a signal), and forked children append to the same file. */
#include "pager.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char record_path[PATH_BYTES];

void record_prepare(void) {
    const char *path = getenv(RECORD_VARIABLE);
    if (!path)
        return;
    if (*path != '/' || strlen(path) >= sizeof record_path)
        fatal(RECORD_VARIABLE "=", path, " is not an absolute path.\nNext: give one.", NULL);
    strcpy(record_path, path);
}

void record_page(uint32_t library, uint64_t address) {
    if (!*record_path)
        return;
    char line[1024], number[NUMBER_TEXT];
    const char *name = cold.names + cold.libraries[library].name;
    const char *parts[] = {name, "\t", hexadecimal(address, number), "\t1000\n"};
    size_t used = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t length = strlen(parts[i]);
        if (length > sizeof line - used)
            fatal("a library's path is too long to be recorded: ", name, NULL);
        memcpy(line + used, parts[i], length);
        used += length;
    }
    /* Opened every time: a program may close or reuse any descriptor that it did not open. */
    int fd = open(record_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, line, used) != (ssize_t)used)
        fatal("the record ", record_path, " cannot be written.\nNext: see that its folder exists and has room.", NULL);
    close(fd);
}
