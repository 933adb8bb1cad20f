/* What the pager's files share. ../DESIGN.md explains the format and the fault path.
 *
 * Everything that runs in the SIGSEGV handler is async-signal-safe: system calls, atomics and memory that was set aside
 * before; no malloc, no stdio, no lock that another thread could hold for long.
 */
#ifndef TORCH_LAYER_PAGER_H
#define TORCH_LAYER_PAGER_H

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORTED __attribute__((visibility("default")))

enum { PAGE_BYTES = 4096, ID_BYTES = 16, PATH_BYTES = 4096, NUMBER_TEXT = 24 };

/* ---- names that Python code knows too; tests compare them ---- */

#define PAGER_FILE_NAME "libtorch_layer_pager.so"
#define COMPANION_FILE_NAME "libtorch_layer_companion.so"
#define SIDE_FILE_NAME "libraries.cold"
#define MODE_VARIABLE "TORCH_LAYER_PAGER"          /* unset, "on" or "eager" */
#define RECORD_VARIABLE "TORCH_LAYER_PAGER_RECORD" /* in a recording tree: the file to append touched pages to */

/* The note by which the pager knows a split library. Its content is the library's id. */
#define NOTE_NAME "torch-layer"
enum { NOTE_SPLIT_LIBRARY = 1 };

/* ---- the side file, as builder/native/side_file.py writes it; numbers are little-endian ---- */

#define COLD_MAGIC "TLCOLD\r\n"
enum { COLD_VERSION = 1 };

struct cold_header {
    char magic[8];
    uint32_t version, machine, page_bytes, flags; /* flags: none yet, 0 */
    uint64_t index_offset, index_stored, index_bytes, file_bytes;
};

/* The index, decompressed: this, then as many libraries, blocks and fragments, then the names, each ended by a NUL. Its
 * frame has a checksum, so that a damaged number here is found like any other damage. */
struct cold_counts {
    uint32_t libraries, blocks, fragments, names_bytes;
};

struct cold_library {
    uint8_t id[ID_BYTES]; /* the same bytes are in a note of the library itself */
    uint32_t name, name_bytes, first_fragment, fragments, first_block, blocks;
};

struct cold_block {
    uint64_t offset; /* of one zstd frame in the side file */
    uint32_t stored, bytes, first_fragment, fragments, protection, filter;
};

struct cold_fragment { /* by ascending address in a library; a block holds the bytes of its fragments one after another */
    uint64_t address;
    uint32_t bytes, block;
};

enum { FILTER_NONE = 0, FILTER_X86 = 1 };

/* The side file in memory. Its index is checked once, at load, so that the fault path can rely on it. */
struct cold_file {
    char path[PATH_BYTES];
    const uint8_t *image;
    struct cold_header header;
    struct cold_counts count;
    const struct cold_library *libraries;
    const struct cold_block *blocks;
    const struct cold_fragment *fragments;
    const char *names;
};

extern struct cold_file cold;

/* coldfile.c: map and check `directory`/libraries.cold, or end the process with a message. */
void cold_open(const char *directory);

/* ---- libraries in this process ---- */

struct attached { /* written once, before `attached_count` goes past it */
    uintptr_t base, low, high; /* load address, and the addresses that the library's fragments span */
    uint32_t library;
};

enum { MAX_ATTACHED = 64 };
extern struct attached attached[MAX_ATTACHED];
extern _Atomic uint32_t attached_count;

/* attach.c: find the split libraries that are new in the process. Not for the handler: it takes the loader's lock. */
void attach_new(void);

/* attach.c: unmap the libraries' pages that are as in their files; a touch maps them again. Not for the handler either. */
void attach_trim(void);

/* ---- paging (fault.c) ---- */

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXECUTE, ACCESS_UNKNOWN };

void fault_prepare(void);                              /* set aside what the handler needs */
int fault_serve(uintptr_t address, enum access access); /* 1: try again, the page is there now; 0: not the pager's */
void fault_load_all(void);                             /* bring in every block of every attached library */

struct torch_layer_pager_stats { /* torch_layer/pager.py mirrors this */
    uint64_t faults, blocks, bytes, nanoseconds, waits, libraries, guarded, recovered;
};

void fault_counts(struct torch_layer_pager_stats *to); /* fills in the first five */

/* filter.c: undo the branch filter in place; `address` is the library address of the first byte. */
void filter_x86_decode(uint8_t *bytes, size_t count, uint32_t address);

/* ---- keeping the handler in place ---- */

void handler_install(void);                          /* handler.c: take SIGSEGV over from whoever has it */
void handler_check(void);                            /* handler.c: take it back if somebody went round the guard */
uint64_t handler_recovered(void);                    /* handler.c: how often that was needed */
void handler_swap(const struct sigaction *, struct sigaction *); /* handler.c: the action that the process believes in */
void guard_install(void);                            /* guard.c: later sigaction() calls go through handler_swap() */
int guard_complete(void);                            /* guard.c: 1 if every function could be wrapped */

/* ---- messages (message.c): put together without stdio, on standard error; lists of strings that end with NULL ---- */

_Noreturn void fatal(const char *first, ...);
const char *decimal(uint64_t number, char text[NUMBER_TEXT]);
const char *hexadecimal(uint64_t number, char text[NUMBER_TEXT]);

#ifdef TORCH_LAYER_RECORDING
void record_prepare(void);                              /* record.c: read TORCH_LAYER_PAGER_RECORD */
void record_page(uint32_t library, uint64_t address);   /* record.c: note one touched page */
#endif

/* ---- what companions and Python code call (pager.c, decompress.c) ---- */

void torch_layer_pager_attach(void);
void torch_layer_pager_load_all(void);
void torch_layer_pager_trim(void);
int torch_layer_pager_check(void);
void torch_layer_pager_stats(struct torch_layer_pager_stats *to);
size_t torch_layer_pager_decompress(void *out, size_t capacity, const void *frame, size_t count, const void *prefix,
                                    size_t prefix_count);

#endif
