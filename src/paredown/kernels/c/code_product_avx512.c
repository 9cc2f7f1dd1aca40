#include "kernels.h"

#ifdef PAREDOWN_X86
#include <immintrin.h>

#define ROWS 12

/* Add the products with one word of each weight to total[row][block]. */
AVX512 INLINE void add(const struct product *p, const uint8_t *x, __m512i codes[2], __m512i total[ROWS][2], const int rows,
                       const int blocks) {
    const int64_t steps = 8 / p->w_bits, x_row = p->words * steps * 4;
    const __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)p->table));
    const __m512i mask = _mm512_set1_epi8((char)((1 << p->w_bits) - 1));
    for (int64_t s = 0; s < steps; s++, x += 4) {
        __m512i values[2];
        for (int b = 0; b < blocks; b++) {
            values[b] = _mm512_shuffle_epi8(table, _mm512_and_si512(codes[b], mask));
            codes[b] = _mm512_srl_epi32(codes[b], _mm_cvtsi32_si128(p->w_bits));
        }
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, x + r * x_row, 4);
            for (int b = 0; b < blocks; b++)
                total[r][b] = _mm512_dpbusd_epi32(total[r][b], _mm512_set1_epi32(four), values[b]);
        }
    }
}

/* Write the totals of `rows` rows and `blocks` blocks of outputs; both constants are known when this is inlined. */
AVX512 INLINE void tile(const struct product *p, int64_t row, int64_t block, const int rows, const int blocks) {
    const int64_t inputs = p->words * (8 / p->w_bits) * 4, w_block = p->words * LANES;
    const uint8_t *x = (const uint8_t *)p->x + row * inputs;
    const uint32_t *w = p->w + block * w_block;
    __m512i total[ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < blocks; b++)
            total[r][b] = _mm512_setzero_si512();
    for (int64_t k = 0; k < p->words; k++) {
        __m512i codes[2];
        for (int b = 0; b < blocks; b++)
            codes[b] = _mm512_loadu_si512(w + b * w_block + k * LANES);
        add(p, x + k * (32 / p->w_bits), codes, total, rows, blocks);
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

AVX512 void code_product_avx512(const struct product *p) {
    const int64_t blocks = (p->outputs + LANES - 1) / LANES;
    for (int64_t block = 0; block < blocks; block += 2) {
        int64_t row = 0;
        if (block + 1 < blocks) {
            for (; row + ROWS <= p->rows; row += ROWS)
                tile(p, row, block, ROWS, 2);
            for (; row + 4 <= p->rows; row += 4)
                tile(p, row, block, 4, 2);
            for (; row < p->rows; row++)
                tile(p, row, block, 1, 2);
        } else {
            for (; row + ROWS <= p->rows; row += ROWS)
                tile(p, row, block, ROWS, 1);
            for (; row < p->rows; row++)
                tile(p, row, block, 1, 1);
        }
    }
}
#endif
