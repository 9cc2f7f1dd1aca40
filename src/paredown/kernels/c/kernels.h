/* Matrix products and convolutions of codes of few bits. The caller owns all memory; nothing is kept between calls.
 *
 * LANES outputs stand side by side: a step of a weight is LANES words of 32 bits, one for each output, of which each holds
 * 32 bits of one plane (bit_product) or 32 / bits whole codes (code_product).
 */
#ifndef PAREDOWN_KERNELS_H
#define PAREDOWN_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
/* 1.5 * 2^23: adding and taking it away rounds a float of less than 2^22 to the nearest integer, ties to even. */
#define NEAR 12582912.0f

#if defined(__GNUC__) && defined(__x86_64__)
#define PAREDOWN_X86 1
#define AVX2 __attribute__((target("avx2,popcnt")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq")))
#endif
#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

enum path { PORTABLE, WITH_AVX2, WITH_AVX512 };
enum kind { TWOS, SIGNS, TERNARY };

/* y[row, output] = scale * dot(x[row], w[output]) + offset[which[row], output], modulo 2^32.
 *
 * x: bit_product: uint32 [rows, words, x_bits]; code_product: uint8 [rows, words * 32 / w_bits].
 * w: bit_product: uint32 [blocks, w_bits, words, LANES]; code_product: uint32 [blocks, words, LANES].
 * y: int32, rows y_stride apart. offset: int32 [classes, outputs]; which: a class for each row, or NULL for class 0.
 * kind: bit_product: what the weight's planes are (bit_product.c).
 * table: code_product: the value of each code, 16 bytes. */
struct product {
    const void *x;
    const uint32_t *w;
    int32_t *y;
    const int32_t *offset;
    const int32_t *which;
    const int8_t *table;
    int64_t rows, words, outputs, y_stride;
    int32_t x_bits, w_bits, kind, scale;
};

/* Convolutions' windows: x [pictures, height, width] of pixels of pixel_bytes bytes; rows of row_bytes, one for each of the
 * pictures * out_height * out_width places, in which the pixels of a window follow each other. */
struct patches {
    const uint8_t *x;
    uint8_t *rows;
    int64_t pictures, height, width, pixel_bytes, out_height, out_width, row_bytes;
    int64_t kernel[2], stride[2], padding[2], dilation[2];
};

int fastest_path(void);
int bit_product(int path, const struct product *p);
void bit_product_portable(const struct product *p);
void bit_product_avx2(const struct product *p);
void bit_product_avx512(const struct product *p);
int code_product(int path, const struct product *p);
void code_product_portable(const struct product *p);
void code_product_avx2(const struct product *p);
void code_product_avx512(const struct product *p);
int pack_planes(int path, const uint8_t *codes, uint32_t *planes, int64_t rows, int64_t stride, int64_t channels, int bits);
void pack_planes_portable(const uint8_t *codes, uint32_t *planes, int64_t rows, int64_t stride, int64_t channels, int bits);
void pack_planes_avx2(const uint8_t *codes, uint32_t *planes, int64_t rows, int64_t stride, int64_t channels, int bits);
void pack_planes_avx512(const uint8_t *codes, uint32_t *planes, int64_t rows, int64_t stride, int64_t channels, int bits);
void gather_patches(const struct patches *p);
void quantize(const float *x, uint8_t *codes, const int64_t shape[3], float inverse, const int32_t levels[3]);
void to_real(const int32_t *total, float *y, const int64_t shape[3], const float *factor, const float *bias);
void to_codes(const int32_t *total, uint8_t *y, const int64_t shape[2], const float *factor, const int32_t levels[3]);

INLINE int64_t lanes_at(const struct product *p, int64_t block) {
    int64_t left = p->outputs - block * LANES;
    return left < LANES ? left : LANES;
}

/* Whether the counts of the weight's plane i are subtracted. */
INLINE int is_negative(const struct product *p, int i) {
    return p->kind == SIGNS || (p->kind == TWOS && i == p->w_bits - 1);
}

INLINE const int32_t *offset_at(const struct product *p, int64_t row) {
    return p->offset + (p->which ? p->which[row] : 0) * p->outputs;
}

#endif
