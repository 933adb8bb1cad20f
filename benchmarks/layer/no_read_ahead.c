/* An auditing library (rtld-audit(7)): it turns the kernel's reading ahead off for every library below a folder, as soon as
   it is mapped. Then the page cache has the pages that a program touched, and no others.
   `python -m benchmarks.layer.reading` uses it. */
#define _GNU_SOURCE
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

unsigned la_version(unsigned version) { return version; }

unsigned la_objopen(struct link_map *object, Lmid_t space, uintptr_t *cookie) {
    (void)space, (void)cookie;
    const char *folder = getenv("NO_READ_AHEAD_BELOW");
    FILE *maps = folder && strstr(object->l_name, ".so") ? fopen("/proc/self/maps", "r") : NULL;
    if (!maps)
        return 0;
    char line[5000];
    unsigned long start, end;
    while (fgets(line, sizeof line, maps))
        if (strstr(line, folder) && sscanf(line, "%lx-%lx", &start, &end) == 2)
            madvise((void *)start, end - start, MADV_RANDOM);
    fclose(maps);
    return 0;
}
