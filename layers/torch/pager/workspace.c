/* What one thread needs to bring cold code back: memory for zstd's decoder, and a stack.
 *
 * All of it is set aside at load. Pages that are never used cost nothing. The handler's entry (entry.S) claims a
 * workspace for each signal. No signal can interrupt it while it has one, so every workspace comes back. The exception
 * is a fork in the middle: the child does not have the thread that would give it back. Then, and when more threads
 * fault at once than there are workspaces, fresh memory is mapped. No thread ever waits for a workspace.
 *
 * The stack is above the decoder's memory. At most 2 KiB of it were used where that was measured, with the layer.
 */
#include "pager.h"

#define ZSTD_STATIC_LINKING_ONLY
#include "zstd.h"

#include <sys/mman.h>

enum { STACK_BYTES = 16 << 10 };

_Atomic uint64_t workspace_free = ((uint64_t)1 << WORKSPACES) - 1;
uint8_t *workspace_memory;
size_t workspace_bytes;
uint8_t workspace_last_stack[LAST_STACK_BYTES] __attribute__((aligned(16)));

_Noreturn void workspace_no_memory(void) {
    fatal("no memory to bring cold code back.\nNext: give the function more memory.", NULL);
}

static uint8_t *map(size_t bytes, int flags) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (memory == MAP_FAILED)
        workspace_no_memory();
    return memory;
}

void workspace_prepare(void) {
    workspace_bytes = (ZSTD_estimateDCtxSize() + STACK_BYTES + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    if (WORKSPACES)
        workspace_memory = map(WORKSPACES * workspace_bytes, MAP_NORESERVE);
}

void *workspace_new(void) {
    return map(workspace_bytes, 0);
}

void workspace_delete(void *workspace) {
    munmap(workspace, workspace_bytes);
}

ZSTD_DCtx *workspace_decoder(void *workspace) {
    return ZSTD_initStaticDCtx(workspace, workspace_bytes - STACK_BYTES);
}
