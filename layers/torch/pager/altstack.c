/* Alternate signal stacks: a small one that a thread sets is replaced by a roomier one.
 *
 * A handler that runs on an alternate stack may touch cold code. Then the kernel puts a second signal frame on the same
 * stack. The process did not count on it, and a frame is large: about 3 KiB with AVX-512, 11 KiB with AMX. The kernel
 * ends the process if the frame does not fit. It asks no handler, so there could not even be a message.
 *
 * So the kernel gets a stack of the pager's in place of any that is smaller than AMPLE. It has room for two frames
 * beside all that the process may use. Nothing is ever written to the memory that the process gave. A handler has all
 * the room that it counts on, even where not one frame would have fitted (2,048 bytes with AVX-512). sigaltstack()
 * reports what the process had set, since programs restore or free what it reports. A stack of AMPLE bytes or more is
 * used as it is: it has room to spare.
 *
 * Each thread keeps one such stack until it ends. Not seen here are stacks that were set by a bare system call, or by
 * another thread before the pager was loaded. They need room for one more frame than without the pager.
 */
#define _GNU_SOURCE
#include "pager.h"

#include <errno.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

/* New glibc has these functions under a new version too, which an older one lacks. */
#if defined __x86_64__
enum { SMALLEST = 2048 }; /* what the kernel accepts: its MINSIGSTKSZ */
#define OLDEST(name) __asm__(".symver " #name ", " #name "@GLIBC_2.2.5")
#elif defined __aarch64__
enum { SMALLEST = 5120 };
#define OLDEST(name) __asm__(".symver " #name ", " #name "@GLIBC_2.17")
#endif
OLDEST(pthread_key_create);
OLDEST(pthread_getspecific);
OLDEST(pthread_setspecific);

enum { AMPLE = 64 << 10, OLD_FRAME = 4096 };

struct roomy { /* at the upper end of the memory, above the stack, and a page without access below it */
    stack_t believed;
    uint8_t *memory;
};

static pthread_key_t key; /* of the thread's `struct roomy` */
static size_t stack_bytes;

static uint8_t *lower_end(const struct roomy *roomy) {
    return roomy->memory + PAGE_BYTES;
}

static int is_on(const struct roomy *roomy) {
    return (uintptr_t)__builtin_frame_address(0) - (uintptr_t)lower_end(roomy) < stack_bytes;
}

static size_t all_bytes(void) {
    return stack_bytes + 2 * PAGE_BYTES;
}

/* At the end of its thread. A thread that ends within a handler is still on the stack, which then stays. */
static void forget(void *value) {
    struct roomy *roomy = value;
    stack_t now, none = {.ss_flags = SS_DISABLE};
    if (is_on(roomy))
        return;
    if (!sigaltstack(NULL, &now) && now.ss_sp == lower_end(roomy))
        sigaltstack(&none, NULL);
    munmap(roomy->memory, all_bytes());
}

static struct roomy *allocate(void) {
    uint8_t *memory = mmap(NULL, all_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    struct roomy *roomy = (void *)(memory + PAGE_BYTES + stack_bytes);
    roomy->memory = memory;
    roomy->believed.ss_flags = SS_DISABLE;
    if (mprotect(memory, PAGE_BYTES, PROT_NONE) || pthread_setspecific(key, roomy)) {
        munmap(memory, all_bytes());
        return NULL;
    }
    return roomy;
}

void altstack_prepare(void) {
    size_t frame = getauxval(AT_MINSIGSTKSZ);
    stack_bytes = AMPLE + 2 * ((frame > OLD_FRAME ? frame : OLD_FRAME) + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    if (pthread_key_create(&key, forget))
        fatal("this process has used up its pthread keys.\nNext: import torch before the code that uses them.", NULL);
    stack_t now;
    if (!sigaltstack(NULL, &now) && !(now.ss_flags & (SS_DISABLE | SS_ONSTACK)))
        altstack_swap(&now, NULL);
}

int altstack_swap(const stack_t *asked, stack_t *before) {
    struct roomy *roomy = pthread_getspecific(key);
    stack_t wanted = {0}, given, was;
    if (sigaltstack(NULL, &was))
        return -1;
    int had_ours = roomy && was.ss_sp == lower_end(roomy);
    if (had_ours) {
        was.ss_sp = roomy->believed.ss_sp;
        was.ss_size = roomy->believed.ss_size;
    }
    if (asked) {
        wanted = given = *asked;
        int is_small = !(wanted.ss_flags & SS_DISABLE) && wanted.ss_size >= SMALLEST && wanted.ss_size < AMPLE;
        if (had_ours && was.ss_flags & SS_ONSTACK) {
            /* The kernel sees no difference between two small stacks, so its rule must be kept here. */
            if (wanted.ss_sp == was.ss_sp && wanted.ss_size == was.ss_size)
                is_small = 1;
            else if (is_small) {
                errno = EPERM;
                return -1;
            }
        }
        /* Within a handler that was entered with SS_AUTODISARM, our stack is in use and the kernel does not know it. */
        if (roomy && is_on(roomy) && !had_ours)
            is_small = 0;
        if (is_small) {
            if (!roomy && !(roomy = allocate())) {
                errno = ENOMEM;
                return -1;
            }
            given.ss_sp = lower_end(roomy);
            given.ss_size = stack_bytes;
        }
        if (sigaltstack(&given, NULL))
            return -1;
        if (is_small)
            roomy->believed = wanted;
    }
    if (before)
        *before = was;
    return 0;
}
