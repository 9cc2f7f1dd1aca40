/* Reading under pdn_coder.h's models. After an error every bit is 0 and `error` stays set; loops must look at it. */
#ifndef PDN_DECODER_H
#define PDN_DECODER_H
#include "pdn_coder.h"

typedef struct {
    const uint8_t *data;
    size_t size, at;
    uint32_t range, code;
    int error;
} pdn_decoder;

static inline void pdn_take(pdn_decoder *d) {
    uint32_t byte = d->at < d->size ? d->data[d->at] : 0;
    if (++d->at > d->size + PDN_LEFT_OUT + 4) d->error = 1;
    d->code = d->code << 8 | byte;
}

static inline void pdn_begin(pdn_decoder *d, const uint8_t *data, size_t size) {
    d->data = data, d->size = size, d->at = 0, d->range = 0xffffffffu, d->code = 0, d->error = 0;
    for (int at = 0; at < 4; at++) pdn_take(d);
}

static inline int pdn_bit(pdn_decoder *d, pdn_context *context) {
    uint32_t bound = (d->range >> 16) * pdn_chance(*context);
    int bit = d->code < bound;
    if (bit) d->range = bound;
    else d->code -= bound, d->range -= bound;
    *context = pdn_learned(*context, bit);
    while (d->range < 1u << 24) d->range <<= 8, pdn_take(d);
    return bit;
}

static inline uint32_t pdn_even(pdn_decoder *d, int width) {
    uint32_t number = 0;
    while (width-- > 0) {
        d->range >>= 1;
        uint32_t bit = d->code >= d->range;
        if (bit) d->code -= d->range;
        number = number << 1 | bit;
        if (d->range < 1u << 24) d->range <<= 8, pdn_take(d);
    }
    return number;
}

/* What is said of the next entry of a weight whose zeros lie by a pattern: is it not zero, or -1. */
static inline int pdn_told(pdn_decoder *d, pdn_zeros *zeros) {
    pdn_context *context = pdn_asked(zeros);
    return pdn_answered(zeros, context ? pdn_bit(d, context) : 0);
}

/* One number whose two neighbours' sizes sum to `near`; other: 1 for the second of two roundings; known: from pdn_told. */
static inline int32_t pdn_level(pdn_decoder *d, const pdn_model *m, uint32_t near, int other, int known) {
    int seen = pdn_class(near, m->fine), kind = m->fine ? seen : 0;
    if (!(known < 0 ? pdn_bit(d, &m->zero[seen + (other ? m->fine ? 10 : 3 : 0)]) : known)) return 0;
    int negative = pdn_bit(d, m->sign);
    int32_t size = 1;
    while (size <= 2 && pdn_bit(d, &m->more[2 * kind + size - 1])) size++;
    if (size == 3) {
        pdn_context *length = m->length + kind * (PDN_WIDE + 1);
        int width = 0;
        while (pdn_bit(d, &length[width])) {
            if (++width == PDN_WIDE || d->error) {
                d->error = 1;
                return 0;
            }
        }
        int told = width < 3 ? width : 3;
        uint32_t place = 1;
        for (int at = 0; at < told; at++) place = 2 * place + (uint32_t)pdn_bit(d, &m->digits[width][place - 1]);
        size += (int32_t)((place << (width - told) | pdn_even(d, width - told)) - 1);
    }
    return negative ? -size : size;
}

typedef void (*pdn_put)(void *out, size_t at, int32_t level);

static inline void pdn_put8(void *out, size_t at, int32_t level) { ((int8_t *)out)[at] = (int8_t)level; }
static inline void pdn_put16(void *out, size_t at, int32_t level) { ((int16_t *)out)[at] = (int16_t)level; }
static inline void pdn_put32(void *out, size_t at, int32_t level) { ((int32_t *)out)[at] = level; }

/* Which levels are allowed: low .. high, and 0 only where `zero` is set. */
typedef struct {
    int32_t low, high;
    int zero;
} pdn_limits;

/* How a row is coded: with dependent levels, with zeros by a pattern (or NULL). */
typedef struct {
    int trellis;
    pdn_zeros *zeros;
} pdn_manner;

/* `count` levels in order, each given to `put` with its place; one that is not allowed is an error. */
static inline void pdn_row(pdn_decoder *from, const pdn_model *m, size_t count, pdn_manner how, pdn_put put, void *out,
                           pdn_limits limits) {
    pdn_decoder own = *from, *d = &own; /* a copy, so that it stays in registers */
    uint32_t before = 0, last = 0;
    int state = 0;
    for (size_t at = 0; at < count && !d->error; at++) {
        int odd = how.trellis && state > 3;
        int32_t number = pdn_level(d, m, before + last, odd, how.zeros ? pdn_told(d, how.zeros) : -1), level = number;
        if (how.trellis) {
            level = 2 * number - (odd ? (number > 0) - (number < 0) : 0);
            state = pdn_trellis[state][number & 1];
        }
        if (level < limits.low || level > limits.high || (!level && !limits.zero)) {
            d->error = 1;
            break;
        }
        put(out, at, level);
        before = last, last = (uint32_t)(number < 0 ? -number : number);
    }
    *from = own;
}

/* An index of `width` bits through a tree of contexts, of which there are 1 << width. */
static inline uint32_t pdn_index(pdn_decoder *d, pdn_context *nodes, int width, pdn_zeros *zeros) {
    uint32_t place = 1;
    int told = zeros ? pdn_told(d, zeros) : -1;
    if (!told || (told > 0 && width == 1)) return (uint32_t)told;
    for (int at = 0; at < width; at++) place = 2 * place + (uint32_t)pdn_bit(d, &nodes[place]);
    return place - (1u << width);
}

static inline int pdn_ended(const pdn_decoder *d) { return d->at >= d->size; }
#endif
