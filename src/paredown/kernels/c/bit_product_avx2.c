#include "kernels.h"

#ifdef PAREDOWN_X86
#include <immintrin.h>

/* Return how many bits of each byte are one: two look-ups of four bits (Mula, Kurz, Lemire 2018, section 2.4). */
AVX2 INLINE __m256i ones(__m256i v) {
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
                                           0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15);
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
    return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(v, low)), _mm256_shuffle_epi8(table, high));
}

/* Return the ones of one pair of planes for eight lanes. Bytes are summed for 31 words at a time: 31 * 8 < 256. */
AVX2 INLINE __m256i count(const struct product *p, const uint32_t *x, const uint32_t *w, const int kind) {
    __m256i sum = _mm256_setzero_si256();
    for (int64_t from = 0; from < p->words; from += 31) {
        const int64_t to = from + 31 < p->words ? from + 31 : p->words;
        __m256i bytes = _mm256_setzero_si256();
        for (int64_t k = from; k < to; k++, w += LANES) {
            __m256i bits = _mm256_loadu_si256((const __m256i *)w);
            const __m256i same = _mm256_set1_epi32((int)x[k * p->x_bits]);
            bits = kind == TWOS ? _mm256_and_si256(bits, same) : _mm256_xor_si256(bits, same);
            if (kind == TERNARY)
                bits = _mm256_and_si256(bits, _mm256_loadu_si256((const __m256i *)(w + p->words * LANES)));
            bytes = _mm256_add_epi8(bytes, ones(bits));
        }
        const __m256i pairs = _mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return sum;
}

/* Write the totals of one row for LANES / 2 outputs from `out` on. */
AVX2 INLINE void half(const struct product *p, int64_t row, int64_t out, const int kind) {
    const int64_t plane = p->words * LANES, left = p->outputs - out;
    const uint32_t *x = (const uint32_t *)p->x + row * p->words * p->x_bits;
    const uint32_t *w = p->w + out / LANES * p->w_bits * plane + out % LANES;
    __m256i total = _mm256_setzero_si256();
    for (int i = 0; i < (kind == TERNARY ? 1 : p->w_bits); i++)
        for (int j = 0; j < p->x_bits; j++) {
            const __m256i sum = _mm256_sll_epi32(count(p, x + j, w + i * plane, kind), _mm_cvtsi32_si128(i + j));
            total = is_negative(p, i) ? _mm256_sub_epi32(total, sum) : _mm256_add_epi32(total, sum);
        }
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i here = _mm256_cmpgt_epi32(_mm256_set1_epi32(left < 8 ? (int)left : 8), lane);
    __m256i y = _mm256_mullo_epi32(total, _mm256_set1_epi32(p->scale));
    y = _mm256_add_epi32(y, _mm256_maskload_epi32(offset_at(p, row) + out, here));
    _mm256_maskstore_epi32(p->y + row * p->y_stride + out, here, y);
}

AVX2 void bit_product_avx2(const struct product *p) {
    for (int64_t out = 0; out < p->outputs; out += LANES / 2)
        for (int64_t row = 0; row < p->rows; row++)
            if (p->kind == TERNARY)
                half(p, row, out, TERNARY);
            else if (p->kind == SIGNS)
                half(p, row, out, SIGNS);
            else
                half(p, row, out, TWOS);
}
#endif
