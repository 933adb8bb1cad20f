/* A split library's companion: the library needs it (DT_NEEDED), so its constructor runs before any code of the
 * library, and tells the pager that a library is new. Every split library has a copy of its own under another name,
 * since a copy that is loaded already would not run its constructor again. */
#include "pager.h"

__attribute__((constructor)) static void arrive(void) {
    torch_layer_pager_attach();
}
