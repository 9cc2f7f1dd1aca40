#include "kernels.h"

#ifdef PAREDOWN_X86
#include <immintrin.h>

#define ROWS 4

/* Return the bits to count. first, second: words of the weight; the second is read for ternary weights alone. */
AVX512 INLINE __m512i compared(__m512i first, __m512i second, __m512i x, const int kind) {
    if (kind == TERNARY)
        return _mm512_ternarylogic_epi32(first, second, x, 0x48); /* (first ^ x) & second */
    return kind == SIGNS ? _mm512_xor_si512(first, x) : _mm512_and_si512(first, x);
}

/* Add the ones of one pair of planes to sum[row][block]. */
AVX512 INLINE void count(const struct product *p, const uint32_t *x, const uint32_t *w, __m512i sum[ROWS][2], const int rows,
                         const int blocks, const int kind) {
    const int64_t x_row = p->words * p->x_bits, w_plane = p->words * LANES, w_block = p->w_bits * w_plane;
    for (int64_t k = 0; k < p->words; k++, w += LANES, x += p->x_bits) {
        __m512i first[2], second[2];
        for (int b = 0; b < blocks; b++) {
            first[b] = _mm512_loadu_si512(w + b * w_block);
            second[b] = kind == TERNARY ? _mm512_loadu_si512(w + b * w_block + w_plane) : first[b];
        }
        for (int r = 0; r < rows; r++) {
            const __m512i same = _mm512_set1_epi32((int)x[r * x_row]);
            for (int b = 0; b < blocks; b++) {
                const __m512i ones = _mm512_popcnt_epi32(compared(first[b], second[b], same, kind));
                sum[r][b] = _mm512_add_epi32(sum[r][b], ones);
            }
        }
    }
}

/* Write the totals of `rows` rows and `blocks` blocks of outputs; all three constants are known when this is inlined. */
AVX512 INLINE void tile(const struct product *p, int64_t row, int64_t block, const int rows, const int blocks, const int kind) {
    const int64_t w_plane = p->words * LANES;
    const uint32_t *x = (const uint32_t *)p->x + row * p->words * p->x_bits, *w = p->w + block * p->w_bits * w_plane;
    const int planes = kind == TERNARY ? 1 : p->w_bits;
    __m512i total[ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < blocks; b++)
            total[r][b] = _mm512_setzero_si512();
    for (int i = 0; i < planes; i++)
        for (int j = 0; j < p->x_bits; j++) {
            const int down = is_negative(p, i);
            const __m128i shift = _mm_cvtsi32_si128(i + j);
            __m512i sum[ROWS][2];
            for (int r = 0; r < rows; r++)
                for (int b = 0; b < blocks; b++)
                    sum[r][b] = _mm512_setzero_si512();
            count(p, x + j, w + i * w_plane, sum, rows, blocks, kind);
            for (int r = 0; r < rows; r++)
                for (int b = 0; b < blocks; b++) {
                    const __m512i part = _mm512_sll_epi32(sum[r][b], shift);
                    total[r][b] = down ? _mm512_sub_epi32(total[r][b], part) : _mm512_add_epi32(total[r][b], part);
                }
        }
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < blocks; b++) {
            const int64_t out = (block + b) * LANES;
            const __mmask16 here = (__mmask16)((1u << lanes_at(p, block + b)) - 1);
            const __m512i offset = _mm512_maskz_loadu_epi32(here, offset_at(p, row + r) + out);
            const __m512i scaled = _mm512_mullo_epi32(total[r][b], _mm512_set1_epi32(p->scale));
            _mm512_mask_storeu_epi32(p->y + (row + r) * p->y_stride + out, here, _mm512_add_epi32(scaled, offset));
        }
}

AVX512 INLINE void all(const struct product *p, const int kind) {
    const int64_t blocks = (p->outputs + LANES - 1) / LANES;
    for (int64_t block = 0; block < blocks; block += 2) {
        int64_t row = 0;
        if (block + 1 < blocks) {
            for (; row + ROWS <= p->rows; row += ROWS)
                tile(p, row, block, ROWS, 2, kind);
            for (; row < p->rows; row++)
                tile(p, row, block, 1, 2, kind);
        } else {
            for (; row + ROWS <= p->rows; row += ROWS)
                tile(p, row, block, ROWS, 1, kind);
            for (; row < p->rows; row++)
                tile(p, row, block, 1, 1, kind);
        }
    }
}

AVX512 void bit_product_avx512(const struct product *p) {
    if (p->kind == TERNARY)
        all(p, TERNARY);
    else if (p->kind == SIGNS)
        all(p, SIGNS);
    else
        all(p, TWOS);
}
#endif
