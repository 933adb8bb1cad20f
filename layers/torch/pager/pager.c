/* The pager's start: environment, side file, handler, libraries, in this order. Loaded by the loader itself, before the
 * first split library runs any code. */
#define _GNU_SOURCE
#include "pager.h"

#include <link.h>
#include <stdlib.h>
#include <string.h>

static int eager;

static void read_environment(void) {
    const char *mode = getenv(MODE_VARIABLE);
    if (!mode || !*mode || !strcmp(mode, "on"))
        return;
    if (!strcmp(mode, "eager"))
        eager = 1;
    else if (!strcmp(mode, "off"))
        fatal(MODE_VARIABLE "=off is refused: part of the libraries' code is compressed beside them, and they cannot "
              "run without the pager.\nNext: unset " MODE_VARIABLE ", or set it to eager to bring everything in at "
              "load.",
              NULL);
    else
        fatal(MODE_VARIABLE "=", mode, " is not known.\nNext: unset it, or set it to on (the default) or eager.", NULL);
}

/* The folder that this very library was loaded from. */
static int find_directory(struct dl_phdr_info *object, size_t size, void *directory) {
    (void)size;
    uintptr_t here = (uintptr_t)find_directory - object->dlpi_addr;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &object->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || here < p->p_vaddr || here >= p->p_vaddr + p->p_memsz)
            continue;
        const char *name = object->dlpi_name, *slash = strrchr(name, '/');
        size_t length = slash ? (size_t)(slash - name) : 1;
        if (length >= PATH_BYTES)
            fatal("the path of the layer is too long: ", name, NULL);
        memcpy(directory, slash ? name : ".", length);
        ((char *)directory)[length] = 0;
        return 1;
    }
    return 0;
}

static void attach(void) {
    attach_new();
    handler_check();
    if (eager)
        fault_load_all();
}

/* Called by the companion of every split library (companion.c), in the loader's context. */
EXPORTED void torch_layer_pager_attach(void) {
    attach();
}

/* For programs that want no fault later: before a snapshot is taken, for example. */
EXPORTED void torch_layer_pager_load_all(void) {
    fault_load_all();
}

/* Gives back what only loading the libraries needed: tables of relocations and symbols, static initialisers. They count
 * as memory of the process as long as they are mapped; what is needed again comes from the page cache. */
EXPORTED void torch_layer_pager_trim(void) {
    attach_trim();
}

/* Puts the handler back if something called the kernel directly; returns 1 if that was needed. */
EXPORTED int torch_layer_pager_check(void) {
    uint64_t before = handler_recovered();
    handler_check();
    return handler_recovered() != before;
}

EXPORTED void torch_layer_pager_stats(struct torch_layer_pager_stats *to) {
    *to = (struct torch_layer_pager_stats){
        .libraries = attached_count,
        .guarded = (uint64_t)guard_complete(),
        .recovered = handler_recovered(),
    };
    fault_counts(to);
}

__attribute__((constructor)) static void start(void) {
    static char directory[PATH_BYTES], resolved[PATH_BYTES];
    read_environment();
    dl_iterate_phdr(find_directory, directory);
    workspace_prepare();
    cold_open(realpath(directory, resolved) ? resolved : directory); /* messages are easier to read without "/../.." */
    fault_prepare();
#ifdef TORCH_LAYER_RECORDING
    record_prepare();
#endif
    handler_install();
    altstack_prepare();
    guard_install();
    attach();
}
