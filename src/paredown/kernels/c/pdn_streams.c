/* The streams of large tensors, written and read for Python (kernels/streams.py): each with models of its own. */
#include <stdlib.h>

#include "pdn_decoder.h"

typedef struct {
    uint8_t *out;
    size_t room, at;
    uint32_t low, range;
    int error;
} encoder;

static void carry(encoder *e) {
    size_t at = e->at;
    while (at-- > 0 && ++e->out[at] == 0) {
    }
}

static void up(encoder *e, uint32_t by) {
    e->low += by;
    if (e->low < by) carry(e);
}

static void shift(encoder *e) {
    if (e->at < e->room) e->out[e->at++] = (uint8_t)(e->low >> 24);
    else e->error = 1;
    e->low <<= 8, e->range <<= 8;
}

static void put_bit(encoder *e, pdn_context *context, int bit) {
    uint32_t bound = (e->range >> 16) * pdn_chance(*context);
    if (bit) e->range = bound;
    else up(e, bound), e->range -= bound;
    *context = pdn_learned(*context, bit);
    while (e->range < 1u << 24) shift(e);
}

static void put_even(encoder *e, int width, uint32_t value) {
    while (width-- > 0) {
        e->range >>= 1;
        if (value >> width & 1) up(e, e->range);
        if (e->range < 1u << 24) shift(e);
    }
}

/* Whether an entry that is asked for is not zero, or one of its tile. */
static int answer(const pdn_zeros *z, const int32_t *values, size_t size, size_t at) {
    if (!z->of.tiles) return values[at] != 0;
    size_t columns = z->wide - z->across < z->of.m ? z->wide - z->across : z->of.m;
    for (size_t row = at; row < at + z->of.n * (size_t)z->wide && row < size; row += z->wide)
        for (size_t column = 0; column < columns; column++)
            if (values[row + column]) return 1;
    return 0;
}

/* Says of an entry what its pattern says: returns whether it is not zero, or -1. */
static int put_told(encoder *e, pdn_zeros *z, const int32_t *values, size_t size, size_t at) {
    pdn_context *context = pdn_asked(z);
    int bit = context ? answer(z, values, size, at) : 0;
    if (context) put_bit(e, context, bit);
    return pdn_answered(z, bit);
}

static void put_level(encoder *e, const pdn_model *m, uint32_t near, int other, int known, int32_t level) {
    int seen = pdn_class(near, m->fine), kind = m->fine ? seen : 0;
    int32_t size = level < 0 ? -level : level;
    if (known < 0) put_bit(e, &m->zero[seen + (other ? m->fine ? 10 : 3 : 0)], size != 0);
    if (!size) return;
    put_bit(e, m->sign, level < 0);
    for (int32_t step = 1; step <= 2; step++) {
        put_bit(e, &m->more[2 * kind + step - 1], size > step);
        if (size == step) return;
    }
    uint32_t beyond = (uint32_t)size - 2;
    int width = 0;
    while (beyond >> (width + 1)) width++;
    pdn_context *length = m->length + kind * (PDN_WIDE + 1);
    for (int at = 0; at < width; at++) put_bit(e, &length[at], 1);
    put_bit(e, &length[width], 0);
    int told = width < 3 ? width : 3;
    uint32_t place = 1;
    for (int at = 1; at <= told; at++) {
        int bit = (int)(beyond >> (width - at) & 1);
        put_bit(e, &m->digits[width][place - 1], bit);
        place = 2 * place + (uint32_t)bit;
    }
    put_even(e, width - told, beyond & ((1u << (width - told)) - 1));
}

/* Returns the number of bytes, or -1 where there is no room. See Encoder.finish. */
static int64_t finish(encoder *e) {
    uint64_t top = (uint64_t)e->low + e->range - 1, last = 0;
    for (int at = 32; at >= 0; at--) {
        last = top >> at << at;
        if (last >= e->low) break;
    }
    if (last >> 32) carry(e);
    if (e->error || e->room - e->at < 4) return -1;
    for (int at = 24; at >= 0; at -= 8) e->out[e->at++] = (uint8_t)((uint32_t)last >> at);
    size_t least = e->at > PDN_LEFT_OUT ? e->at - PDN_LEFT_OUT : 0;
    while (e->at > least && !e->out[e->at - 1]) e->at--;
    return (int64_t)e->at;
}

static pdn_model model_of(void *models, int64_t which, int fine) {
    return fine ? pdn_of_fine((pdn_fine *)models + which) : pdn_of_coarse((pdn_coarse *)models + which);
}

static void *fresh_models(int64_t count, int fine) {
    size_t size = (size_t)count * (fine ? sizeof(pdn_fine) : sizeof(pdn_coarse));
    void *models = malloc(size);
    if (models) pdn_fresh(models, size / sizeof(pdn_context));
    return models;
}

static pdn_zeros *fresh_zeros(const pdn_layout *layout) {
    pdn_zeros *zeros = layout ? malloc(sizeof(pdn_zeros)) : NULL;
    if (zeros) pdn_begin_zeros(zeros, *layout);
    return zeros;
}

/* One row of levels. */
static void put_row(encoder *e, const pdn_model *model, const int32_t *values, size_t size, pdn_manner how) {
    uint32_t before = 0, last = 0;
    int state = 0;
    for (size_t at = 0; at < size; at++) {
        int32_t level = values[at];
        int odd = how.trellis && state > 3, told = how.zeros ? put_told(e, how.zeros, values, size, at) : -1;
        if (how.trellis) level = odd ? (level + (level > 0) - (level < 0)) / 2 : level / 2;
        put_level(e, model, before + last, odd, told, level);
        if (how.trellis) state = pdn_trellis[state][level & 1];
        before = last, last = (uint32_t)(level < 0 ? -level : level);
    }
}

/* layout: of a single row that is a whole weight, or NULL. Returns the number of bytes, or -1. */
int64_t pdn_encode_levels(const int32_t *values, const int64_t *which, int64_t rows, int64_t size, int64_t models, int fine,
                          int trellis, const pdn_layout *layout, uint8_t *out, int64_t room) {
    encoder e = {out, (size_t)room, 0, 0, 0xffffffffu, 0};
    pdn_manner how = {trellis, fresh_zeros(layout)};
    void *own = fresh_models(models, fine);
    for (int64_t row = 0; own && row < rows; row++) {
        pdn_model model = model_of(own, which[row], fine);
        put_row(&e, &model, values + row * size, (size_t)size, how);
    }
    int made = own && (how.zeros || !layout);
    free(own), free(how.zeros);
    return made ? finish(&e) : -1;
}

/* Returns 0, or -1 for what cannot be such a stream. */
int pdn_decode_levels(const uint8_t *data, int64_t bytes, const int64_t *which, int64_t rows, int64_t size, int64_t models,
                      int fine, int trellis, const pdn_layout *layout, int32_t *values) {
    pdn_decoder d;
    pdn_begin(&d, data, (size_t)bytes);
    const pdn_limits any = {-(1 << PDN_WIDE), 1 << PDN_WIDE, 1};
    pdn_manner how = {trellis, fresh_zeros(layout)};
    void *own = fresh_models(models, fine);
    for (int64_t row = 0; own && row < rows && !d.error; row++) {
        pdn_model model = model_of(own, which[row], fine);
        pdn_row(&d, &model, (size_t)size, how, pdn_put32, values + row * size, any);
    }
    int made = own && (how.zeros || !layout);
    free(own), free(how.zeros);
    return !made || d.error || !pdn_ended(&d) ? -1 : 0;
}

int64_t pdn_encode_indices(const int32_t *values, int64_t size, int width, const pdn_layout *layout, uint8_t *out, int64_t room) {
    encoder e = {out, (size_t)room, 0, 0, 0xffffffffu, 0};
    pdn_zeros *zeros = fresh_zeros(layout);
    pdn_context *nodes = malloc(sizeof(pdn_context) << width);
    if (nodes) pdn_fresh(nodes, (size_t)1 << width);
    for (int64_t at = 0; nodes && at < size; at++) {
        uint32_t place = 1;
        int told = zeros ? put_told(&e, zeros, values, (size_t)size, (size_t)at) : -1;
        if (!told || (told > 0 && width == 1)) continue;
        for (int bit = width - 1; bit >= 0; bit--) {
            int value = values[at] >> bit & 1;
            put_bit(&e, &nodes[place], value);
            place = 2 * place + (uint32_t)value;
        }
    }
    int made = nodes && (zeros || !layout);
    free(nodes), free(zeros);
    return made ? finish(&e) : -1;
}

int pdn_decode_indices(const uint8_t *data, int64_t bytes, int64_t size, int width, const pdn_layout *layout, int32_t *values) {
    pdn_decoder d;
    pdn_begin(&d, data, (size_t)bytes);
    pdn_zeros *zeros = fresh_zeros(layout);
    pdn_context *nodes = malloc(sizeof(pdn_context) << width);
    if (nodes) pdn_fresh(nodes, (size_t)1 << width);
    for (int64_t at = 0; nodes && at < size && !d.error; at++) values[at] = (int32_t)pdn_index(&d, nodes, width, zeros);
    int made = nodes && (zeros || !layout);
    free(nodes), free(zeros);
    return !made || d.error || !pdn_ended(&d) ? -1 : 0;
}
