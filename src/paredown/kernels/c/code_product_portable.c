#include "kernels.h"

#define ROWS 32

/* Add the products of some rows with the words of 16 outputs, whose values are looked up once for all rows. Eight products
 * are summed in 16 bits: 8 * 255 * 15 < 2^15. */
INLINE void add(const struct product *p, const uint8_t *x, const uint32_t *words, uint32_t total[ROWS][LANES], const int64_t rows) {
    const int each = 32 / p->w_bits;
    const int64_t x_row = p->words * each;
    const uint32_t mask = (1u << p->w_bits) - 1;
    for (int from = 0; from < each; from += 8) {
        int16_t values[8][LANES];
        for (int t = 0; t < 8; t++)
            for (int lane = 0; lane < LANES; lane++) {
                const int at = from + t;
                values[t][lane] = p->table[(words[lane] >> (8 * (at % 4) + at / 4 * p->w_bits)) & mask];
            }
        for (int64_t r = 0; r < rows; r++) {
            int16_t sums[LANES] = {0};
            for (int t = 0; t < 8; t++) {
                const int16_t input = x[r * x_row + from + t];
#pragma GCC unroll 1
                for (int lane = 0; lane < LANES; lane++)
                    sums[lane] = (int16_t)(sums[lane] + values[t][lane] * input);
            }
#pragma GCC unroll 1
            for (int lane = 0; lane < LANES; lane++)
                total[r][lane] += (uint32_t)(int32_t)sums[lane];
        }
    }
}

void code_product_portable(const struct product *p) {
    const int64_t each = 32 / p->w_bits;
    for (int64_t block = 0; block * LANES < p->outputs; block++)
        for (int64_t row = 0; row < p->rows; row += ROWS) {
            const int64_t rows = p->rows - row < ROWS ? p->rows - row : ROWS;
            const uint8_t *x = (const uint8_t *)p->x + row * p->words * each;
            uint32_t total[ROWS][LANES] = {{0}};
            for (int64_t k = 0; k < p->words; k++)
                add(p, x + k * each, p->w + (block * p->words + k) * LANES, total, rows);
            for (int64_t r = 0; r < rows; r++) {
                const int32_t *offset = offset_at(p, row + r) + block * LANES;
                for (int64_t lane = 0; lane < lanes_at(p, block); lane++)
                    p->y[(row + r) * p->y_stride + block * LANES + lane] =
                        (int32_t)((uint32_t)p->scale * total[r][lane] + (uint32_t)offset[lane]);
            }
        }
}
