#include "kernels.h"

#ifdef PAREDOWN_X86
#include <immintrin.h>

AVX512 void pack_planes_avx512(const uint8_t *codes, uint32_t *planes, int64_t rows, int64_t stride, int64_t channels, int bits) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t from = 0; from < channels; from += 32) {
            const int64_t left = channels - from;
            const __mmask32 here = left < 32 ? (__mmask32)((1u << left) - 1) : (__mmask32)~0u;
            const __m256i all = _mm256_maskz_loadu_epi8(here, codes + row * stride + from);
            for (int j = 0; j < bits; j++)
                *planes++ = _mm256_test_epi8_mask(all, _mm256_set1_epi8((char)(1 << j)));
        }
}
#endif
