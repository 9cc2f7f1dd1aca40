#include "kernels.h"

#ifdef PAREDOWN_X86
#include <immintrin.h>

AVX2 void pack_planes_avx2(const uint8_t *codes, uint32_t *planes, int64_t rows, int64_t stride, int64_t channels, int bits) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t from = 0; from < channels; from += 32) {
            const uint8_t *at = codes + row * stride + from;
            uint8_t short_of[32] = {0};
            if (channels - from < 32)
                at = memcpy(short_of, at, (size_t)(channels - from));
            const __m256i all = _mm256_loadu_si256((const __m256i *)at);
            for (int j = 0; j < bits; j++)
                *planes++ = (uint32_t)_mm256_movemask_epi8(_mm256_sll_epi16(all, _mm_cvtsi32_si128(7 - j)));
        }
}
#endif
