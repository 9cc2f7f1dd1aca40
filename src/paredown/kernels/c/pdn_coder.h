/* The range coder of packed files and its models, as in methods/code/range_coder.py and adaptive.py. Integers only, no libc. */
#ifndef PDN_CODER_H
#define PDN_CODER_H
#include <stddef.h>
#include <stdint.h>

#define PDN_HALF (1u << 21)   /* a fresh context: a probability of one half of 1 << 22; the count of bits in the upper 8 */
#define PDN_LEFT_OUT 64
#define PDN_WIDE 20           /* the widest level, and */
#define PDN_COUNT_WIDE 40     /* the widest count, in binary digits */
#define PDN_KEPT 6
#define PDN_FINE 2048
#define PDN_DIGITS 7
#define PDN_GROUP 32          /* the longest group, */
#define PDN_KERNEL 64         /* the most places of a kernel that groups are counted for, */
#define PDN_SIDE 64           /* the longest side of a tile, and */
#define PDN_ACROSS 4096       /* the most tiles beside each other */

typedef uint32_t pdn_context;

/* share of the way to the bit: 65536 / (n + 2) */
#define PDN_S(n) (uint16_t)(65536u / ((n) + 2u))
#define PDN_S4(n) PDN_S(n), PDN_S((n) + 1), PDN_S((n) + 2), PDN_S((n) + 3)
#define PDN_S16(n) PDN_S4(n), PDN_S4((n) + 4), PDN_S4((n) + 8), PDN_S4((n) + 12)
#define PDN_S64(n) PDN_S16(n), PDN_S16((n) + 16), PDN_S16((n) + 32), PDN_S16((n) + 48)
static const uint16_t pdn_share[256] = {PDN_S64(0), PDN_S64(64), PDN_S64(128), PDN_S64(192)};

/* the class of two neighbours whose sizes sum to 0 .. 20 */
static const uint8_t pdn_near[21] = {0, 1, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 6};
/* the trellis of dependent levels: 8 states (ISO/IEC 15938-17) */
static const uint8_t pdn_trellis[8][2] = {{0, 2}, {5, 7}, {1, 3}, {6, 4}, {2, 0}, {4, 6}, {3, 1}, {7, 5}};

static inline void pdn_fresh(pdn_context *contexts, size_t count) {
    for (size_t at = 0; at < count; at++) contexts[at] = PDN_HALF;
}

static inline uint32_t pdn_chance(pdn_context context) {
    uint32_t p = (context & 0xffffffu) >> 6;
    return p < 32 ? 32 : p > 65504 ? 65504 : p;
}

static inline pdn_context pdn_learned(pdn_context context, int bit) {
    uint32_t p = context & 0xffffffu, seen = context >> 24;
    uint64_t share = pdn_share[seen];
    p = bit ? p + (uint32_t)(((1u << 22) - p) * share >> 16) : p - (uint32_t)(p * share >> 16);
    return (seen < 255 ? seen + 1 : seen) << 24 | p;
}

static inline void pdn_forget(pdn_context *contexts, size_t count) {
    for (size_t at = 0; at < count; at++)
        if (contexts[at] >> 24 > PDN_KEPT) contexts[at] = (uint32_t)PDN_KEPT << 24 | (contexts[at] & 0xffffffu);
}

/* Levels: a coarse model, and the classes that make it a fine one. */
typedef struct {
    pdn_context zero[6], sign, more[2], length[PDN_WIDE + 1], digits[PDN_WIDE + 1][PDN_DIGITS];
} pdn_coarse;

typedef struct {
    pdn_context zero[20], sign, more[10][2], length[10][PDN_WIDE + 1], digits[PDN_WIDE + 1][PDN_DIGITS];
} pdn_fine;

/* What a level is coded with: places in one of the two. */
typedef struct {
    pdn_context *zero, *sign, *more, *length;
    pdn_context (*digits)[PDN_DIGITS];
    int fine;
} pdn_model;

static inline pdn_model pdn_of_coarse(pdn_coarse *m) {
    pdn_model found = {m->zero, &m->sign, m->more, m->length, m->digits, 0};
    return found;
}

static inline pdn_model pdn_of_fine(pdn_fine *m) {
    pdn_model found = {m->zero, &m->sign, m->more[0], m->length[0], m->digits, 1};
    return found;
}

/* Where zeros lie by a pattern, as in methods/code/zeros.py: at most n of m inputs, or whole tiles of n rows and m columns. */
typedef struct {
    uint32_t tiles, n, m, inputs, kernel;
} pdn_layout;

typedef struct {
    pdn_layout of;
    uint32_t input, place, within, tile, row, across, wide; /* groups: wide, the inputs that are grouped; tiles: a row's entries */
    pdn_context contexts[PDN_GROUP * PDN_GROUP];
    uint8_t seen[PDN_ACROSS]; /* groups: how many are not zero, by place; tiles: which are not */
} pdn_zeros;

static inline void pdn_begin_zeros(pdn_zeros *z, pdn_layout of) {
    z->of = of, z->input = z->place = z->within = z->tile = z->row = z->across = 0;
    z->wide = of.tiles ? of.inputs * of.kernel : of.inputs / of.m * of.m;
    pdn_fresh(z->contexts, PDN_GROUP * PDN_GROUP);
    for (uint32_t at = 0; at < PDN_KERNEL; at++) z->seen[at] = 0;
}

/* What is asked of the next entry: its context, or NULL where nothing is. */
static inline pdn_context *pdn_asked(pdn_zeros *z) {
    if (z->of.tiles) return !z->row && !z->within ? z->contexts : NULL;
    if (z->input >= z->wide || z->seen[z->place] == z->of.n) return NULL;
    return &z->contexts[(z->of.m - z->within - 1) * PDN_GROUP + z->of.n - z->seen[z->place] - 1];
}

/* Takes the answer, 0 where nothing was asked, and goes on: whether the entry is not zero, or -1 where nothing is said of it. */
static inline int pdn_answered(pdn_zeros *z, int bit) {
    int told;
    if (z->of.tiles) {
        if (!z->row && !z->within) z->seen[z->tile] = (uint8_t)bit;
        told = z->seen[z->tile] ? -1 : 0;
        if (++z->within == z->of.m) z->within = 0, z->tile++;
        if (++z->across == z->wide) z->across = z->within = z->tile = 0, z->row = z->row + 1 == z->of.n ? 0 : z->row + 1;
        return told;
    }
    told = z->input < z->wide ? bit : -1;
    z->seen[z->place] = (uint8_t)(z->seen[z->place] + bit);
    if (++z->place < z->of.kernel) return told;
    z->place = 0, z->within++;
    if (++z->input == z->of.inputs) z->input = 0;
    if (z->within == z->of.m || !z->input) {
        z->within = 0;
        for (uint32_t at = 0; at < z->of.kernel; at++) z->seen[at] = 0;
    }
    return told;
}

static inline int pdn_class(uint32_t near, int fine) {
    if (!fine) return near < 2 ? (int)near : 2;
    return near <= 20 ? pdn_near[near] : near <= 40 ? 7 : near <= 80 ? 8 : 9;
}
#endif
