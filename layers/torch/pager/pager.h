/* What the pager's files share. ../DESIGN.md explains the format and the fault path.
 *
 * Everything that runs in the SIGSEGV handler is async-signal-safe: system calls, atomics and memory that was set aside
 * before; no malloc, no stdio, no lock that another thread could hold for long.
 */
#ifndef TORCH_LAYER_PAGER_H
#define TORCH_LAYER_PAGER_H

/* ---- what entry.S needs; handler.c checks that the numbers are right ---- */

#ifndef WORKSPACES
#define WORKSPACES 32 /* at most 63; tests set 0 */
#endif
#define LAST_STACK_BYTES 4096
#define MASK_SET 2                        /* SIG_SETMASK */
#define MASK_BYTES 8                      /* the kernel's signal set */
#define SIGNAL_SEGV 11                    /* SIGSEGV */
#define MEMORY_READ_WRITE 3               /* PROT_READ | PROT_WRITE */
#define MEMORY_PRIVATE_ANONYMOUS 0x22     /* MAP_PRIVATE | MAP_ANONYMOUS */
#if defined __x86_64__
#define CONTEXT_MASK 296                  /* where a signal frame's ucontext has the interrupted signal mask */
#elif defined __aarch64__
#define CONTEXT_MASK 40
#else
#error "the pager knows x86_64 and aarch64"
#endif

#ifdef __ASSEMBLER__
#include <asm/unistd.h>
#else

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

/* By ascending address in a library. A block holds the bytes of its fragments one after another. */
struct cold_fragment {
    uint64_t address;
    uint32_t bytes, block;
};

enum { FILTER_NONE = 0, FILTER_X86 = 1, FILTER_ARM64 = 2 };
#if defined __x86_64__
enum { FILTER_HERE = FILTER_X86 };
#define filter_decode filter_x86_decode
#else
enum { FILTER_HERE = FILTER_ARM64 };
#define filter_decode filter_arm64_decode
#endif

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

/* attach.c: unmap the libraries' pages that are as in their files; a touch maps them again. Not for the handler. */
void attach_trim(void);

/* ---- workspaces (workspace.c): memory for zstd's decoder, and a stack ---- */

extern _Atomic uint64_t workspace_free; /* entry.S claims the workspaces: one bit for each, 1 where it is free */
extern uint8_t *workspace_memory;
extern size_t workspace_bytes;
extern uint8_t workspace_last_stack[LAST_STACK_BYTES];

void workspace_prepare(void);
_Noreturn void workspace_no_memory(void);
void *workspace_new(void); /* one beside those of entry.S, not for the handler */
void workspace_delete(void *workspace);
struct ZSTD_DCtx_s *workspace_decoder(void *workspace);

/* ---- paging (fault.c) ---- */

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXECUTE, ACCESS_UNKNOWN };

void fault_prepare(void);  /* set aside what the handler needs */
void fault_load_all(void); /* bring in every block of every attached library */

/* 1: try again, the page is there. 0: the fault is not the pager's. */
int fault_serve(uintptr_t address, enum access access, void *workspace);

struct torch_layer_pager_stats { /* torch_layer/pager.py mirrors this */
    uint64_t faults, blocks, bytes, nanoseconds, waits, libraries, guarded, recovered;
};

void fault_counts(struct torch_layer_pager_stats *to); /* fills in the first five */

/* filter.c: undo the branch filter in place; `address` is the library address of the first byte. */
void filter_x86_decode(uint8_t *bytes, size_t count, uint32_t address);
void filter_arm64_decode(uint8_t *bytes, size_t count, uint32_t address);

/* ---- signals ---- */

/* mask.c: the signal masks that the process asks for, and those that the kernel gets. */
enum { STAND_IN = SIGSTKFLT };
uint64_t mask_word(const sigset_t *mask);
uint64_t mask_bit(int number);
uint64_t mask_to_kernel(uint64_t asked);
void mask_copy_to_kernel(sigset_t *to, const sigset_t *asked);
void mask_show_to_process(sigset_t *kernel);

/* entry.S: the handler that the kernel has, and the function that it calls on a workspace's stack. */
struct decision { /* in two registers */
    void (*handler)(int, siginfo_t *, void *); /* to go on with, or NULL */
    uint64_t interrupted;                      /* the mask that the frame is to hold in the end */
};
void entry(int number, siginfo_t *information, void *context);
extern struct decision (*entry_decide)(int number, siginfo_t *information, void *context, void *workspace);

void handler_install(void);       /* handler.c: take SIGSEGV over from whatever has it */
void handler_check(void);         /* handler.c: take it back if something went round the guard */
uint64_t handler_recovered(void); /* handler.c: how often that was needed */
int handler_restart(int restart); /* handler.c: set the SA_RESTART of that action, as siginterrupt() does */

/* handler.c: the action that the process believes in, and has asked for. */
void handler_swap(const struct sigaction *asked, struct sigaction *before);

void altstack_prepare(void); /* altstack.c: also for the stack that this thread has already */
int altstack_swap(const stack_t *asked, stack_t *before); /* altstack.c: what sigaltstack() does now */

/* calls.c: the functions of libc that are replaced. */
enum { ORIGINALS = 4 }; /* a name can have several versions, and libpthread one of its own */
struct call {
    const char *name;
    uintptr_t replacement;
    int is_needed;                /* without it the handler could be displaced, or SIGSEGV blocked, by ordinary code */
    uintptr_t originals[ORIGINALS]; /* guard.c fills these in */
};
extern struct call calls[];
extern const int calls_count;

int processors_open(const char *path, int flags, ...); /* processors.c, on AArch64: what open() does now */

void guard_install(void); /* guard.c: from now on, a call of one of these functions is a call of its replacement */
int guard_complete(void); /* guard.c: 1 if every function could be replaced */

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
#endif
