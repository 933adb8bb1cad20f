/* From a fault on a cold page to the page: look up, decompress elsewhere, move in.
 *
 * No thread ever waits for another without end. A thread that meets a block which another thread is bringing waits a
 * while, so as not to do the work twice, and then does it itself: two threads that move the same bytes to the same
 * place do no harm. So a claim that nobody will ever fulfil (its thread is not in this forked child) costs time, not a
 * hang.
 */
#define _GNU_SOURCE
#include "pager.h"

#include "zstd.h"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { ABSENT, CLAIMED, READY };
enum { WAIT_MILLISECONDS = 20, WAIT_ROUNDS = 10 };

static _Atomic uint32_t *state; /* per block */

static struct {
    _Atomic uint64_t faults, blocks, bytes, nanoseconds, waits;
} count;

static void add(_Atomic uint64_t *counter, uint64_t amount) {
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *memory(size_t bytes, int flags) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (p == MAP_FAILED)
        fatal("no memory to bring back cold code from ", cold.path,
              " (mmap failed).\nNext: give the function more memory.", NULL);
    return p;
}

void fault_prepare(void) {
    state = memory((cold.count.blocks + 1) * sizeof *state, 0);
}

static void decompress(const struct cold_block *b, uint8_t *to, void *workspace) {
    const uint8_t *from = cold.image + b->offset;
    uintptr_t first_page = (uintptr_t)from / PAGE_BYTES * PAGE_BYTES;
    /* One read of the whole block, not a page fault every few pages, where it is not in the page cache yet. */
    madvise((void *)first_page, (uintptr_t)from + b->stored - first_page, MADV_WILLNEED);
    size_t got = ZSTD_decompressDCtx(workspace_decoder(workspace), to, b->bytes, from, b->stored);
    if (got != b->bytes) {
        char number[NUMBER_TEXT];
        fatal("the compressed half of the libraries, ", cold.path, ", is damaged: block ",
              decimal((uint64_t)(b - cold.blocks), number), " cannot be decompressed (",
              ZSTD_isError(got) ? ZSTD_getErrorName(got) : "wrong size",
              ").\nNext: build the layer again, and deploy all of it together.", NULL);
    }
}

/* Bring one block in. The bytes are complete, filtered, and coherent with the instruction cache before they move, and
 * mremap puts a fragment in place in one step: no thread can see half of it. */
static void bring(const struct attached *where, const struct cold_block *b, void *workspace) {
    uint8_t *buffer = memory(b->bytes, MAP_POPULATE), *piece = buffer;
    decompress(b, buffer, workspace);
    for (uint32_t f = b->first_fragment; f < b->first_fragment + b->fragments; f++) {
        if (b->filter == FILTER_HERE)
            filter_decode(piece, cold.fragments[f].bytes, (uint32_t)cold.fragments[f].address);
        piece += cold.fragments[f].bytes;
    }
    if (b->protection & PROT_EXEC)
        __builtin___clear_cache((char *)buffer, (char *)buffer + b->bytes);
    int failed = mprotect(buffer, b->bytes, (int)b->protection);
    piece = buffer;
    for (uint32_t f = b->first_fragment; !failed && f < b->first_fragment + b->fragments; f++) {
        const struct cold_fragment *fragment = &cold.fragments[f];
        failed = mremap(piece, fragment->bytes, fragment->bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
                        (void *)(where->base + fragment->address)) == MAP_FAILED;
        piece += fragment->bytes;
    }
    if (failed) {
        char number[NUMBER_TEXT];
        fatal("the kernel refused to map cold code from ", cold.path, " (errno ", decimal((uint64_t)errno, number),
              ").\nNext: allow executable anonymous memory, and more mappings (vm.max_map_count).", NULL);
    }
    add(&count.blocks, 1);
    add(&count.bytes, b->bytes);
}

static void futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *timeout) {
    syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

/* Returns 1 if this call, or another thread meanwhile, brought the block in, 0 if it had been there before. */
static int ensure(const struct attached *where, uint32_t block, void *workspace) {
    const struct timespec pause = {.tv_nsec = WAIT_MILLISECONDS * 1000000L};
    uint32_t seen = ABSENT;
    if (!atomic_compare_exchange_strong(&state[block], &seen, CLAIMED)) {
        if (seen == READY)
            return 0;
        add(&count.waits, 1);
        for (int round = 0; round < WAIT_ROUNDS; round++) {
            futex(&state[block], FUTEX_WAIT, CLAIMED, &pause);
            if (atomic_load_explicit(&state[block], memory_order_acquire) == READY)
                return 1;
        }
    }
    bring(where, &cold.blocks[block], workspace);
    atomic_store_explicit(&state[block], READY, memory_order_release);
    futex(&state[block], FUTEX_WAKE, INT32_MAX, NULL);
    return 1;
}

static const struct cold_fragment *find(const struct attached *where, uint64_t address) {
    const struct cold_library *l = &cold.libraries[where->library];
    uint32_t low = l->first_fragment, high = low + l->fragments;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct cold_fragment *f = &cold.fragments[middle];
        if (address < f->address)
            high = middle;
        else if (address >= f->address + f->bytes)
            low = middle + 1;
        else
            return f;
    }
    return NULL;
}

/* Whether the kernel can read 8 bytes here. rt_sigprocmask copies its set before it looks at `how`, and with an invalid
 * `how` it changes nothing: EFAULT means unreadable, EINVAL readable. */
static int readable(uintptr_t address) {
    return syscall(SYS_rt_sigprocmask, ~0L, address & ~(uintptr_t)7, NULL, 8) == 0 || errno != EFAULT;
}

#ifdef TORCH_LAYER_RECORDING
/* In a recording tree the code is in the library itself, without any access right: a touched page gets its rights. */
static int unprotect(const struct attached *where, const struct cold_block *b, uint64_t address) {
    uint64_t page = address / PAGE_BYTES * PAGE_BYTES;
    if (mprotect((void *)(where->base + page), PAGE_BYTES, (int)b->protection))
        fatal("the kernel refused to give a page of the recording tree its rights.\n"
              "Next: raise vm.max_map_count, or record with a smaller workload.", NULL);
    record_page(where->library, page);
    add(&count.faults, 1);
    return 1;
}
#endif

int fault_serve(uintptr_t address, enum access access, void *workspace) {
    const struct attached *where = NULL;
    uint32_t libraries = atomic_load_explicit(&attached_count, memory_order_acquire);
    for (uint32_t i = 0; i < libraries; i++)
        if (address >= attached[i].low && address < attached[i].high)
            where = &attached[i];
    const struct cold_fragment *fragment = where ? find(where, address - where->base) : NULL;
    if (!fragment)
        return 0;
    const struct cold_block *b = &cold.blocks[fragment->block];
    if (access == ACCESS_WRITE || (access == ACCESS_EXECUTE && !(b->protection & PROT_EXEC)))
        return 0;
#ifdef TORCH_LAYER_RECORDING
    if (!b->stored)
        return unprotect(where, b, address - where->base);
#endif
    uint64_t start = now();
    if (!ensure(where, fragment->block, workspace))
        return readable(address); /* another thread was faster; otherwise the fault is a real one, not to be repeated */
    add(&count.faults, 1);
    add(&count.nanoseconds, now() - start);
    return 1;
}

void fault_load_all(void) {
    void *workspace = workspace_new();
    uint32_t libraries = atomic_load_explicit(&attached_count, memory_order_acquire);
    for (uint32_t i = 0; i < libraries; i++) {
        const struct cold_library *l = &cold.libraries[attached[i].library];
        for (uint32_t b = l->first_block; b < l->first_block + l->blocks; b++)
            if (cold.blocks[b].stored)
                ensure(&attached[i], b, workspace);
    }
    workspace_delete(workspace);
}

void fault_counts(struct torch_layer_pager_stats *to) {
    to->faults = count.faults;
    to->blocks = count.blocks;
    to->bytes = count.bytes;
    to->nanoseconds = count.nanoseconds;
    to->waits = count.waits;
}
