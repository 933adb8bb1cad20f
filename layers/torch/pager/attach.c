/* Which split libraries are in this process, and where.
 *
 * Each split library needs (DT_NEEDED) a small companion of its own, whose constructor calls attach_new() below. The
 * loader runs it before any code of the library, and outside the fault handler, where dl_iterate_phdr is allowed.
 * Libraries are known by a note that the builder puts into them, never by their names.
 */
#define _GNU_SOURCE
#include "pager.h"

#include <link.h>
#include <string.h>
#include <sys/mman.h>

static const char note_name[] = NOTE_NAME;
enum { TRIMMED_BYTES = 8 * PAGE_BYTES }; /* shorter runs are more calls than they are memory */

struct attached attached[MAX_ATTACHED];
_Atomic uint32_t attached_count;

/* The 16 bytes that tie a library to its side file, or NULL if this object was not split. */
static const uint8_t *find_id(const struct dl_phdr_info *object) {
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &object->dlpi_phdr[i];
        if (p->p_type != PT_NOTE || p->p_memsz < sizeof(ElfW(Nhdr)) + sizeof note_name + ID_BYTES)
            continue;
        const ElfW(Nhdr) *note = (const void *)(object->dlpi_addr + p->p_vaddr);
        const char *name = (const char *)(note + 1);
        if (note->n_type == NOTE_SPLIT_LIBRARY && note->n_namesz == sizeof note_name && note->n_descsz == ID_BYTES &&
            !memcmp(name, note_name, sizeof note_name))
            return (const uint8_t *)name + (sizeof note_name + 3) / 4 * 4;
    }
    return NULL;
}

static int attach_one(struct dl_phdr_info *object, size_t size, void *unused) {
    (void)size, (void)unused;
    const uint8_t *id = find_id(object);
    if (!id)
        return 0;
    uint32_t count = atomic_load_explicit(&attached_count, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++)
        if (attached[i].base == object->dlpi_addr)
            return 0;
    uint32_t which = 0;
    while (which < cold.count.libraries && memcmp(cold.libraries[which].id, id, ID_BYTES))
        which++;
    if (which == cold.count.libraries)
        fatal("the compressed half of the libraries, ", cold.path, ", is of another build than ", object->dlpi_name,
              ".\nNext: build the layer again, and deploy all of it together.", NULL);
    if (count == MAX_ATTACHED)
        fatal("there are too many split libraries in this process.\n"
              "Next: report this; the pager's table needs more room.",
              NULL);
    const struct cold_library *l = &cold.libraries[which];
    const struct cold_fragment *last = &cold.fragments[l->first_fragment + l->fragments - 1];
    attached[count] = (struct attached){
        .base = object->dlpi_addr,
        .low = object->dlpi_addr + cold.fragments[l->first_fragment].address,
        .high = object->dlpi_addr + last->address + last->bytes,
        .library = which,
    };
    /* The handler, in any thread, must see the entry complete; writers are serialised by the loader's lock. */
    atomic_store_explicit(&attached_count, count + 1, memory_order_release);
    return 0;
}

void attach_new(void) {
    dl_iterate_phdr(attach_one, NULL);
}

static int trim_one(struct dl_phdr_info *object, size_t size, void *unused) {
    (void)size, (void)unused;
    if (!find_id(object))
        return 0;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &object->dlpi_phdr[i];
        /* Only pages of the file that nobody can have written: not data, which a relocation may have, and not holes,
         * where cold code lies that has come back. */
        if (p->p_type == PT_LOAD && !(p->p_flags & PF_W) && p->p_filesz >= TRIMMED_BYTES && p->p_filesz == p->p_memsz)
            madvise((void *)(object->dlpi_addr + p->p_vaddr), p->p_filesz, MADV_DONTNEED);
    }
    return 0;
}

void attach_trim(void) {
    dl_iterate_phdr(trim_one, NULL);
}
