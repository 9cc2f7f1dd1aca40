#include "kernels.h"

#ifdef PAREDOWN_X86
#include <immintrin.h>

#define ROWS 4

/* Write the totals of `rows` rows, a constant when this is inlined, for LANES / 2 outputs from `out` on. Pairs of products fit 16 bits:
 * 2 * 255 * 15 < 2^15. */
AVX2 INLINE void tile(const struct product *p, int64_t row, int64_t out, const int rows) {
    const int64_t steps = 8 / p->w_bits, left = p->outputs - out, x_row = p->words * steps * 4;
    const uint8_t *x = (const uint8_t *)p->x + row * x_row;
    const uint32_t *w = p->w + out / LANES * p->words * LANES + out % LANES;
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p->table));
    const __m256i mask = _mm256_set1_epi8((char)((1 << p->w_bits) - 1)), one = _mm256_set1_epi16(1);
    __m256i total[ROWS];
    for (int r = 0; r < rows; r++)
        total[r] = _mm256_setzero_si256();
    for (int64_t k = 0; k < p->words; k++, w += LANES) {
        __m256i codes = _mm256_loadu_si256((const __m256i *)w);
        for (int64_t s = 0; s < steps; s++, x += 4) {
            const __m256i values = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, mask));
            codes = _mm256_srl_epi32(codes, _mm_cvtsi32_si128(p->w_bits));
            for (int r = 0; r < rows; r++) {
                int32_t four;
                memcpy(&four, x + r * x_row, 4);
                const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi32(four), values);
                total[r] = _mm256_add_epi32(total[r], _mm256_madd_epi16(pairs, one));
            }
        }
    }
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i here = _mm256_cmpgt_epi32(_mm256_set1_epi32(left < 8 ? (int)left : 8), lane);
    for (int r = 0; r < rows; r++) {
        const __m256i offset = _mm256_maskload_epi32(offset_at(p, row + r) + out, here);
        const __m256i scaled = _mm256_mullo_epi32(total[r], _mm256_set1_epi32(p->scale));
        _mm256_maskstore_epi32(p->y + (row + r) * p->y_stride + out, here, _mm256_add_epi32(scaled, offset));
    }
}

AVX2 void code_product_avx2(const struct product *p) {
    for (int64_t out = 0; out < p->outputs; out += LANES / 2) {
        int64_t row = 0;
        for (; row + ROWS <= p->rows; row += ROWS)
            tile(p, row, out, ROWS);
        for (; row < p->rows; row++)
            tile(p, row, out, 1);
    }
}
#endif
