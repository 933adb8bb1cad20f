/* Opening the side file: every number that the fault path uses is checked here, once. */
#include "pager.h"

#include "zstd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined __x86_64__
enum { MACHINE = 62 };
#elif defined __aarch64__
enum { MACHINE = 183 };
#endif

enum { MAX_BLOCK_BYTES = 16 << 20, MAX_INDEX_BYTES = 64 << 20 };

struct cold_file cold;

static _Noreturn void damaged(const char *why) {
    fatal("the compressed half of the libraries, ", cold.path, ", ", why,
          ".\nNext: build the layer again, and deploy all of it together.", NULL);
}

static void map_file(void) {
    int fd = open(cold.path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        damaged(errno == ENOENT ? "is missing" : "cannot be opened");
    off_t size = lseek(fd, 0, SEEK_END);
    if (size < (off_t)sizeof cold.header || pread(fd, &cold.header, sizeof cold.header, 0) != sizeof cold.header)
        damaged("is cut short");
    if (memcmp(cold.header.magic, COLD_MAGIC, sizeof cold.header.magic))
        damaged("is not a side file of this layer");
    if (cold.header.version != COLD_VERSION)
        damaged("has a format that this pager does not know");
    if (cold.header.machine != MACHINE)
        damaged("was built for another processor architecture");
    if (cold.header.page_bytes != PAGE_BYTES || sysconf(_SC_PAGESIZE) != PAGE_BYTES)
        damaged("was built for another page size than this machine's");
    if ((uint64_t)size != cold.header.file_bytes)
        damaged("is cut short, or was changed");
    void *image = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (image == MAP_FAILED)
        damaged("cannot be mapped into memory");
    /* A block is read as a whole and its neighbours are not: fault.c asks for exactly the block that it needs. */
    madvise(image, (size_t)size, MADV_RANDOM);
    cold.image = image;
}

static void read_index(void) {
    const struct cold_header *h = &cold.header;
    if (h->index_offset > h->file_bytes || h->index_stored > h->file_bytes - h->index_offset ||
        h->index_bytes > MAX_INDEX_BYTES || h->index_bytes < sizeof cold.count || h->flags)
        damaged("has a damaged header");
    uint8_t *index = mmap(NULL, h->index_bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (index == MAP_FAILED)
        fatal("no memory for the index of ", cold.path, ".\nNext: give the function more memory.", NULL);
    void *workspace = workspace_new();
    size_t got = ZSTD_decompressDCtx(workspace_decoder(workspace), index, h->index_bytes, cold.image + h->index_offset,
                                     h->index_stored);
    workspace_delete(workspace);
    if (got != h->index_bytes)
        damaged("has a damaged index");
    memcpy(&cold.count, index, sizeof cold.count);
    const struct cold_counts *n = &cold.count;
    if (h->index_bytes != sizeof *n + n->libraries * (uint64_t)sizeof(struct cold_library) +
                              n->blocks * (uint64_t)sizeof(struct cold_block) +
                              n->fragments * (uint64_t)sizeof(struct cold_fragment) + n->names_bytes)
        damaged("has an index that contradicts itself (counts)");
    cold.libraries = (const void *)(index + sizeof *n);
    cold.blocks = (const void *)(cold.libraries + n->libraries);
    cold.fragments = (const void *)(cold.blocks + n->blocks);
    cold.names = (const void *)(cold.fragments + n->fragments);
    mprotect(index, h->index_bytes + 1, PROT_READ);
}

/* The index has a checksum, so it is what the builder wrote; these checks keep a builder's mistake from becoming a
 * stray write. */
static void check_index(void) {
    const struct cold_header *h = &cold.header;
    const struct cold_counts *n = &cold.count;
    for (uint32_t i = 0; i < n->libraries; i++) {
        const struct cold_library *l = &cold.libraries[i];
        if ((uint64_t)l->name + l->name_bytes >= n->names_bytes || cold.names[l->name + l->name_bytes] ||
            (uint64_t)l->first_block + l->blocks > n->blocks || !l->fragments ||
            (uint64_t)l->first_fragment + l->fragments > n->fragments)
            damaged("has an index that contradicts itself (libraries)");
        uint64_t end = 0;
        for (uint32_t f = l->first_fragment; f < l->first_fragment + l->fragments; f++) {
            const struct cold_fragment *piece = &cold.fragments[f];
            if (piece->address < end || piece->address % PAGE_BYTES || piece->bytes % PAGE_BYTES || !piece->bytes ||
                piece->block < l->first_block || piece->block >= l->first_block + l->blocks ||
                piece->address > UINT64_MAX / 2)
                damaged("has an index that contradicts itself (fragments)");
            end = piece->address + piece->bytes;
        }
    }
    for (uint32_t i = 0; i < n->blocks; i++) {
        const struct cold_block *b = &cold.blocks[i];
        uint64_t bytes = 0;
        if ((uint64_t)b->first_fragment + b->fragments > n->fragments || b->offset > h->file_bytes ||
            b->stored > h->file_bytes - b->offset || b->protection & ~(uint32_t)(PROT_READ | PROT_EXEC) ||
            (b->filter != FILTER_NONE && b->filter != FILTER_HERE))
            damaged("has an index that contradicts itself (blocks)");
        for (uint32_t f = b->first_fragment; f < b->first_fragment + b->fragments; f++) {
            bytes += cold.fragments[f].bytes;
            if (cold.fragments[f].block != i)
                damaged("has an index that contradicts itself (blocks)");
        }
        if (bytes != b->bytes || (b->stored && b->bytes > MAX_BLOCK_BYTES))
            damaged("has an index that contradicts itself (sizes)");
    }
}

void cold_open(const char *directory) {
    static const char name[] = "/" SIDE_FILE_NAME;
    size_t length = strlen(directory);
    if (length + sizeof name > sizeof cold.path)
        fatal("the path of the layer is too long: ", directory, NULL);
    memcpy(cold.path, directory, length);
    memcpy(cold.path + length, name, sizeof name);
    map_file();
    read_index();
    check_index();
}
