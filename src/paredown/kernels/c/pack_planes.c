#include "kernels.h"

/* planes[row, word, j], bit c = bit j of codes[row * stride + 32 word + c]; bits beyond the channels are zero.
 * Return 0, or 1 for a path that this processor has not. */
int pack_planes(int path, const uint8_t *codes, uint32_t *planes, int64_t rows, int64_t stride, int64_t channels, int bits) {
    if (path > fastest_path())
        return 1;
#ifdef PAREDOWN_X86
    if (path == WITH_AVX512)
        pack_planes_avx512(codes, planes, rows, stride, channels, bits);
    else if (path == WITH_AVX2)
        pack_planes_avx2(codes, planes, rows, stride, channels, bits);
    else
#endif
        pack_planes_portable(codes, planes, rows, stride, channels, bits);
    return 0;
}
