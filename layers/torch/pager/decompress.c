/* For torch_layer/archive.py, which keeps cold Python modules in zstd frames as well: one decoder in the layer, not
 * two. */

#include "pager.h"

#include "zstd.h"

/* Decompress one frame that was compressed with `prefix` before it (no prefix: 0 bytes). Returns the number of bytes
 * written, or SIZE_MAX for a frame that is damaged or does not fit. Any thread may call it at any time. */
EXPORTED size_t torch_layer_pager_decompress(void *out, size_t capacity, const void *frame, size_t count,
                                             const void *prefix, size_t prefix_count) {
    ZSTD_DCtx *context = ZSTD_createDCtx();
    if (!context)
        return SIZE_MAX;
    size_t written = ZSTD_DCtx_refPrefix(context, prefix, prefix_count);
    if (!ZSTD_isError(written))
        written = ZSTD_decompressDCtx(context, out, capacity, frame, count);
    ZSTD_freeDCtx(context);
    return ZSTD_isError(written) ? SIZE_MAX : written;
}
