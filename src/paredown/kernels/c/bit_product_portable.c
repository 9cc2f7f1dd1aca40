#include "kernels.h"

#define EACH(pattern) ((pattern) * 0x01010101u)

/* Return how many bits of each byte are one. Plain arithmetic on words side by side: compilers make vectors of it. */
INLINE uint32_t ones(uint32_t v) {
    v -= (v >> 1) & EACH(0x55u);
    v = (v & EACH(0x33u)) + ((v >> 2) & EACH(0x33u));
    return (v + (v >> 4)) & EACH(0x0fu);
}

/* Set sums to the ones of one pair of planes, for each lane. Bytes are summed for 31 words at a time: 31 * 8 < 256. */
INLINE void count(const struct product *p, const uint32_t *x, const uint32_t *w, uint32_t sums[LANES], const int kind) {
    const int64_t words = p->words, step = p->x_bits;
    memset(sums, 0, LANES * sizeof *sums);
    for (int64_t from = 0; from < words; from += 31) {
        const int64_t to = from + 31 < words ? from + 31 : words;
        uint32_t bytes[LANES] = {0};
        for (int64_t k = from; k < to; k++, w += LANES) {
            const uint32_t same = x[k * step];
            for (int lane = 0; lane < LANES; lane++) {
                uint32_t bits = kind == TWOS ? w[lane] & same : w[lane] ^ same;
                if (kind == TERNARY)
                    bits &= w[words * LANES + lane];
                bytes[lane] += ones(bits);
            }
        }
        for (int lane = 0; lane < LANES; lane++) {
            const uint32_t pairs = (bytes[lane] & 0x00ff00ffu) + ((bytes[lane] >> 8) & 0x00ff00ffu);
            sums[lane] += (pairs & 0xffffu) + (pairs >> 16);
        }
    }
}

INLINE void all(const struct product *p, const int kind) {
    const int planes = kind == TERNARY ? 1 : p->w_bits;
    for (int64_t block = 0; block * LANES < p->outputs; block++)
        for (int64_t row = 0; row < p->rows; row++) {
            uint32_t total[LANES] = {0}, sums[LANES];
            const uint32_t *x = (const uint32_t *)p->x + row * p->words * p->x_bits;
            for (int i = 0; i < planes; i++)
                for (int j = 0; j < p->x_bits; j++) {
                    count(p, x + j, p->w + (block * p->w_bits + i) * p->words * LANES, sums, kind);
                    for (int lane = 0; lane < LANES; lane++)
                        total[lane] += (is_negative(p, i) ? 0u - sums[lane] : sums[lane]) << (i + j);
                }
            const int32_t *offset = offset_at(p, row) + block * LANES;
            for (int64_t lane = 0; lane < lanes_at(p, block); lane++)
                p->y[row * p->y_stride + block * LANES + lane] =
                    (int32_t)((uint32_t)p->scale * total[lane] + (uint32_t)offset[lane]);
        }
}

void bit_product_portable(const struct product *p) {
    if (p->kind == TERNARY)
        all(p, TERNARY);
    else if (p->kind == SIGNS)
        all(p, SIGNS);
    else
        all(p, TWOS);
}
