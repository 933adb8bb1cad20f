/* The lists of processors that Linux has in /sys, where a sandbox does not show them.
 *
 * Lambda's sandbox has no /sys/devices/system/cpu/possible. torch's cpuinfo library reads it on AArch64 to learn which
 * processors there are. Without it, whatever asks cpuinfo fails: `model.half()` is a RuntimeError ("Failed to
 * initialize cpuinfo!"), and NNPACK does not start. So a program that opens one of these lists and finds none gets one:
 * a pipe that has the same text. On x86-64 cpuinfo asks the processor itself, so nothing is replaced there.
 */
#define _GNU_SOURCE
#include "pager.h"

#if defined __aarch64__

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FOLDER "/sys/devices/system/cpu/"

static int is_list(const char *path) {
    return !strcmp(path, FOLDER "possible") || !strcmp(path, FOLDER "present");
}

/* A file to read the list from, as the kernel writes it; -1 if there is none to be had. */
static int list_of_processors(void) {
    long count = sysconf(_SC_NPROCESSORS_CONF);
    int ends[2];
    char text[32];
    if (count < 1 || pipe2(ends, O_CLOEXEC))
        return -1;
    int length = count > 1 ? snprintf(text, sizeof text, "0-%ld\n", count - 1) : snprintf(text, sizeof text, "0\n");
    int is_written = write(ends[1], text, (size_t)length) == length; /* a new pipe takes so little at once */
    close(ends[1]);
    if (is_written)
        return ends[0];
    close(ends[0]);
    return -1;
}

int processors_open(const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    int file = open(path, flags, mode);
    if (file >= 0 || errno != ENOENT || !is_list(path))
        return file;
    file = list_of_processors();
    errno = ENOENT;
    return file;
}

#endif
