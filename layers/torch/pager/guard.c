/* Keeping the handler: what asks libc later for another SIGSEGV action gets it from handler.c, not from the kernel.
 *
 * Without this, the first faulthandler.enable() would take the pager out. A library cannot interpose libc's functions
 * when it is loaded late (libc comes first in the search order), so the functions of calls.c are put in place where the
 * loader finds libc's:
 *   - in the dynamic symbol table of libc (and of libpthread, before glibc 2.34): whatever is bound, loaded or looked
 *     up
 *     with dlsym from now on gets the replacement, also a library whose constructor calls sigaction();
 *   - in the bound slots (GOT) of the objects that are loaded already, where the slot holds the function's address.
 *     Only data is changed, each word in one aligned store. What calls the kernel itself (Go's runtime does, and hands
 *     foreign faults on) is not seen here; handler_check() looks for it.
 */
#define _GNU_SOURCE
#include "pager.h"

#include <link.h>
#include <string.h>
#include <sys/mman.h>

static uintptr_t lowest = UINTPTR_MAX, highest;
static int complete;

/* ---- objects in memory ---- */

struct object {
    uintptr_t base;
    const ElfW(Phdr) *headers;
    int count;
    const ElfW(Sym) *symbols;
    const char *strings, *name;
    const uint32_t *hash;
    const ElfW(Rela) *relocations[2];
    size_t relocation_count[2], relative_count;
};

static int read_object(const struct dl_phdr_info *info, struct object *o) {
    *o = (struct object){.base = info->dlpi_addr, .headers = info->dlpi_phdr, .count = info->dlpi_phnum};
    const ElfW(Dyn) *entry = NULL;
    for (int i = 0; i < o->count; i++)
        if (o->headers[i].p_type == PT_DYNAMIC)
            entry = (const void *)(o->base + o->headers[i].p_vaddr);
    size_t soname = 0;
    for (; entry && entry->d_tag != DT_NULL; entry++) {
        /* glibc has turned these into addresses, but not for the vDSO. */
        uintptr_t pointer = entry->d_un.d_ptr < o->base ? o->base + entry->d_un.d_ptr : entry->d_un.d_ptr;
        switch (entry->d_tag) {
        case DT_SYMTAB: o->symbols = (const void *)pointer; break;
        case DT_STRTAB: o->strings = (const void *)pointer; break;
        case DT_GNU_HASH: o->hash = (const void *)pointer; break;
        case DT_SONAME: soname = entry->d_un.d_val; break;
        case DT_RELA: o->relocations[0] = (const void *)pointer; break;
        case DT_RELASZ: o->relocation_count[0] = entry->d_un.d_val / sizeof(ElfW(Rela)); break;
        case DT_RELACOUNT: o->relative_count = entry->d_un.d_val; break;
        case DT_JMPREL: o->relocations[1] = (const void *)pointer; break;
        case DT_PLTRELSZ: o->relocation_count[1] = entry->d_un.d_val / sizeof(ElfW(Rela)); break;
        default: break;
        }
    }
    o->name = o->strings && soname ? o->strings + soname : "";
    return o->symbols && o->strings;
}

static int contains(const struct object *o, const ElfW(Phdr) *p, uintptr_t address) {
    return address >= o->base + p->p_vaddr && address < o->base + p->p_vaddr + p->p_memsz;
}

/* The access rights that the loader left an address with, or -1 if it is in no segment. */
static int rights(const struct object *o, uintptr_t address) {
    int found = -1;
    for (int i = 0; i < o->count; i++) {
        const ElfW(Phdr) *p = &o->headers[i];
        if (p->p_type == PT_LOAD && contains(o, p, address) && found < 0)
            found = (p->p_flags & PF_R ? PROT_READ : 0) | (p->p_flags & PF_W ? PROT_WRITE : 0) |
                    (p->p_flags & PF_X ? PROT_EXEC : 0);
        uintptr_t relro_end = (o->base + p->p_vaddr + p->p_memsz) / PAGE_BYTES * PAGE_BYTES;
        if (p->p_type == PT_GNU_RELRO && address >= o->base + p->p_vaddr && address < relro_end)
            return PROT_READ;
    }
    return found;
}

static int store(const struct object *o, uintptr_t where, uintptr_t value) {
    int had = rights(o, where);
    void *page = (void *)(where / PAGE_BYTES * PAGE_BYTES);
    if (had < 0)
        return 0;
    int is_protected = !(had & PROT_WRITE);
    if (is_protected && mprotect(page, PAGE_BYTES, had | PROT_WRITE))
        return 0;
    __atomic_store_n((uintptr_t *)where, value, __ATOMIC_RELEASE);
    if (is_protected)
        mprotect(page, PAGE_BYTES, had);
    return 1;
}

/* ---- libc's symbol table ---- */

static uint32_t gnu_hash(const char *name) {
    uint32_t h = 5381;
    while (*name)
        h = h * 33 + (uint8_t)*name++;
    return h;
}

static void remember(struct call *call, uintptr_t address) {
    for (int i = 0; i < ORIGINALS; i++) {
        if (call->originals[i] == address)
            return;
        if (!call->originals[i]) {
            call->originals[i] = address;
            lowest = address < lowest ? address : lowest;
            highest = address > highest ? address : highest;
            return;
        }
    }
}

/* Every version of a name, by the object's GNU hash table (its layout: binutils, bfd/elflink.c). */
static void replace_symbol(const struct object *o, struct call *call) {
    uint32_t buckets = o->hash[0], first = o->hash[1], bloom_words = o->hash[2];
    const uint32_t *bucket = o->hash + 4 + bloom_words * (sizeof(ElfW(Addr)) / 4), *chain = bucket + buckets;
    uint32_t hash = gnu_hash(call->name), i = bucket[hash % buckets];
    if (i < first)
        return;
    for (;; i++) {
        const ElfW(Sym) *s = &o->symbols[i];
        uint32_t link = chain[i - first];
        if ((link | 1) == (hash | 1) && s->st_shndx != SHN_UNDEF && ELF64_ST_TYPE(s->st_info) == STT_FUNC &&
            !strcmp(o->strings + s->st_name, call->name)) {
            remember(call, o->base + s->st_value);
            /* The loader adds the base to this value, modulo 2^64: the difference leads to the replacement. */
            complete &= store(o, (uintptr_t)&s->st_value, call->replacement - o->base);
        }
        if (link & 1)
            break;
    }
}

static int replace_symbols(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size, (void)unused;
    struct object o;
    if (read_object(info, &o) && o.hash && (!strcmp(o.name, "libc.so.6") || !strcmp(o.name, "libpthread.so.0")))
        for (int i = 0; i < calls_count; i++)
            replace_symbol(&o, &calls[i]);
    return 0;
}

/* ---- slots that are bound already ---- */

#if defined __x86_64__
enum { ABSOLUTE = R_X86_64_64, GLOBAL_DATA = R_X86_64_GLOB_DAT, JUMP_SLOT = R_X86_64_JUMP_SLOT };
#elif defined __aarch64__
enum { ABSOLUTE = R_AARCH64_ABS64, GLOBAL_DATA = R_AARCH64_GLOB_DAT, JUMP_SLOT = R_AARCH64_JUMP_SLOT };
#endif

static void rebind(const struct object *o, const ElfW(Rela) *r) {
    uint32_t type = (uint32_t)ELF64_R_TYPE(r->r_info);
    if (type != JUMP_SLOT && type != GLOBAL_DATA && type != ABSOLUTE)
        return;
    uintptr_t *slot = (uintptr_t *)(o->base + r->r_offset);
    if (*slot < lowest || *slot > highest)
        return;
    for (int c = 0; c < calls_count; c++)
        for (int i = 0; i < ORIGINALS; i++)
            if (*slot && *slot == calls[c].originals[i]) {
                complete &= store(o, (uintptr_t)slot, calls[c].replacement);
                return;
            }
}

static int rebind_object(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size, (void)unused;
    struct object o;
    if (!read_object(info, &o))
        return 0;
    for (int i = 0; i < o.count; i++) /* the pager itself keeps the real functions, and libc its own */
        if (o.headers[i].p_type == PT_LOAD && contains(&o, &o.headers[i], (uintptr_t)rebind_object))
            return 0;
    if (!strcmp(o.name, "libc.so.6") || !strcmp(o.name, "libpthread.so.0"))
        return 0;
    for (size_t r = o.relative_count; o.relocations[0] && r < o.relocation_count[0]; r++)
        rebind(&o, &o.relocations[0][r]);
    for (size_t r = 0; o.relocations[1] && r < o.relocation_count[1]; r++)
        rebind(&o, &o.relocations[1][r]);
    return 0;
}

void guard_install(void) {
    complete = 1;
    dl_iterate_phdr(replace_symbols, NULL);
    for (int i = 0; i < calls_count; i++)
        complete &= calls[i].originals[0] || !calls[i].is_needed;
    dl_iterate_phdr(rebind_object, NULL);
}

int guard_complete(void) {
    return complete;
}
