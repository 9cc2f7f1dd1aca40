/* Reading packed networks (docs/packed-format.md) in portable C99: no libc, no allocation; the caller owns all memory.
 *
 *     static pdn_reader reader;                       about 50 KB (pdn_reader_bytes)
 *     pdn_open(&reader, file, size);
 *     for (pdn_tensor t; pdn_next(&reader, &t) == PDN_TENSOR;) {
 *         pdn_buffers to = {codes, ...};              room for what `t` says, or NULL for all: the tensor is passed over
 *         if (pdn_read(&reader, &to) != PDN_OK) ...
 *     }
 *
 * Tensors come in the file's order. Passing over a large one reads none of it. Nothing that a file holds makes a read or a
 * write go beyond the file, the reader or the room that was told.
 */
#ifndef PDN_H
#define PDN_H
#include "pdn_decoder.h"

enum pdn_result { PDN_OK, PDN_TENSOR, PDN_END, PDN_DAMAGED, PDN_ROOM, PDN_VERSION };
enum pdn_form { PDN_ROUNDED, PDN_SHARED, PDN_PLAIN, PDN_VECTORS, PDN_HASHED, PDN_BLOCKS };
enum pdn_type { PDN_FLOAT32, PDN_INT64, PDN_INT32, PDN_UINT8, PDN_INT8, PDN_BOOL, PDN_FLOAT16 };
enum pdn_number { PDN_INT, PDN_UINT, PDN_Q, PDN_BF16, PDN_FP16, PDN_E4M3, PDN_E5M2, PDN_E3M2, PDN_E2M3, PDN_E2M1 };
#define PDN_RANK 8
#define PDN_NODES 4096

/* What a tensor is. codes: how many there are, of code_bytes each: signed (rounded), unsigned (others).
 *
 * rounded: value = code * step; steps: 1, or one for each entry of the first dimension; channels: these have widths.
 * shared: value = table[code]. vectors: books * vectors * length floats in the table.
 * plain: codes of `type` are the values. hashed: `floats` values, `seed`; no codes.
 * blocks: value = (number of the code - zero) * step * coarse; steps: rows * of_row; zeros, coarse: how many there are. */
typedef struct {
    enum pdn_form form;
    enum pdn_type type;
    int rank, bits, code_bytes, channels;
    uint32_t shape[PDN_RANK];
    size_t codes, steps, coarse, zeros, floats;
    uint32_t books, vectors, length, seed;
    enum pdn_number number;
    int fraction;
    uint32_t block, rows, of_row;
} pdn_tensor;

/* Where it goes; `codes` may be NULL, then nothing is kept. Each has the room that pdn_tensor tells. */
typedef struct {
    void *codes;       /* codes * code_bytes */
    float *steps;      /* steps */
    float *coarse;     /* coarse */
    int32_t *zeros;    /* zeros */
    float *floats;     /* the table, or the values of a hash */
    uint8_t *widths;   /* channels ? shape[0] : 0 */
} pdn_buffers;

typedef struct {
    pdn_context length[PDN_COUNT_WIDE], top[PDN_COUNT_WIDE + 1];
} pdn_counts;

enum { F_FOLLOWS, F_ROUNDED, F_SHARED, F_WIDTH_SIGN, F_ONE_STEP, F_SHORT_STEP, F_EXPONENT_SIGN, F_DEPENDENT, F_HALF, F_SPARSE, F_ONE_ROW,
       F_TWO_LEVELS, F_ZERO_POINT, F_HALF_SIGN, F_POWER_SIGN, F_LOWER, F_ZERO_SIGN, F_PATTERN, F_TILES, FLAGS };
enum { C_TENSORS, C_RANK, C_DIMENSION, C_FORM, C_BITS, C_WIDTH, C_EXPONENT, C_STREAM, C_CENTROIDS, C_DTYPE, C_BOOKS, C_VECTOR, C_VALUES,
       C_NUMBER, C_NUMBER_BITS, C_FRACTION, C_BLOCK, C_SCALE_FORM, C_HALF, C_POWER, C_LARGEST, C_ZERO, C_PATTERN_FIRST, C_PATTERN_SECOND, COUNTS };

typedef struct {
    const uint8_t *streams;
    size_t left;
    pdn_decoder coder;
    pdn_tensor now;
    uint32_t tensors, done, before;
    int follows, waiting, exponent, failed;
    pdn_context flags[FLAGS];
    pdn_counts counts[COUNTS];
    pdn_coarse coarse[2], by_width[17];
    pdn_fine fine[2];
    pdn_context nodes[PDN_NODES];
    pdn_zeros zeros;
} pdn_reader;

size_t pdn_reader_bytes(void);
int pdn_open(pdn_reader *reader, const void *file, size_t size);
int pdn_next(pdn_reader *reader, pdn_tensor *tensor);
int pdn_read(pdn_reader *reader, const pdn_buffers *to);
/* The value of a code of a number format, and which value of a hash stands at an entry. */
float pdn_value(const pdn_tensor *tensor, uint32_t code);
uint32_t pdn_bucket(uint32_t entry, uint32_t seed, uint32_t values, int *negative);
#endif
