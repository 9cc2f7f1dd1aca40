/* The portable decoder of packed networks; see pdn.h, and docs/packed-format.md for the format. */
#include "pdn.h"

#define MOST (1u << 28)
#define APART (1u << 14)
#define TRELLIS 256
#define INLINE_BYTES 1024
#define BLOCKED 17

static const uint8_t type_bytes[7] = {4, 8, 4, 1, 1, 1, 2};
/* exponent bits, mantissa bits, bias, and what the largest exponent means: 0 numbers, 1 one NaN, 2 infinities */
static const int8_t floats_of[7][4] = {{8, 7, 127, 2}, {5, 10, 15, 2}, {4, 3, 7, 1}, {5, 2, 15, 2}, {3, 2, 3, 0}, {2, 3, 1, 0}, {2, 1, 1, 0}};

static uint32_t crc(uint32_t sum, const uint8_t *data, size_t size) {
    static const uint32_t half[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                      0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    sum = ~sum;
    for (size_t at = 0; at < size; at++) {
        sum ^= data[at];
        sum = sum >> 4 ^ half[sum & 15];
        sum = sum >> 4 ^ half[sum & 15];
    }
    return ~sum;
}

static uint32_t word(const uint8_t *data) {
    return data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
}

static float as_float(uint32_t bits) {
    union { uint32_t bits; float value; } both;
    both.bits = bits;
    return both.value;
}

/* number * 2^power, rounded as the sum of exact steps: exact unless the result is subnormal. */
static float scaled(float number, int power) {
    for (; power > 0 && number < 3.0e38f; power--) number *= 2.0f;
    if (power > 0) return as_float(0x7f800000u);
    double small = number;
    for (; power < 0 && small > 1e-60; power++) small *= 0.5;
    return power < 0 ? 0.0f : (float)small;
}

static float of_pattern(uint32_t code, const int8_t of[4]) {
    int exponent = of[0], mantissa = of[1];
    uint32_t size = code & ((1u << (exponent + mantissa)) - 1), power = size >> mantissa, part = size & ((1u << mantissa) - 1);
    int negative = (int)(code >> (exponent + mantissa) & 1), top = power == (1u << exponent) - 1;
    float found;
    if (of[3] == 2 && top) found = as_float(part ? 0x7fc00000u : 0x7f800000u);
    else if (of[3] == 1 && top && part == (1u << mantissa) - 1) found = as_float(0x7fc00000u);
    else found = scaled((float)(power ? part + (1u << mantissa) : part), (power ? (int)power : 1) - of[2] - mantissa);
    return negative ? -found : found;
}

/* ---- numbers, flags ---- */

static void damage(pdn_reader *r) { r->failed = 1; }

static int bad(const pdn_reader *r) { return r->failed || r->coder.error; }

static int flag(pdn_reader *r, int which) { return pdn_bit(&r->coder, &r->flags[which]); }

static uint64_t counted(pdn_reader *r, int which) {
    pdn_counts *model = &r->counts[which];
    int width = 0;
    while (pdn_bit(&r->coder, &model->length[width])) {
        if (++width == PDN_COUNT_WIDE || r->coder.error) {
            damage(r);
            return 0;
        }
    }
    if (!width) return 0;
    uint64_t first = 2 + (uint64_t)pdn_bit(&r->coder, &model->top[width]), rest = 0;
    for (int at = 0; at < width - 1; at++) rest = rest << 1 | pdn_even(&r->coder, 1);
    return (first << (width - 1) | rest) - 1;
}

static uint32_t count(pdn_reader *r, int which) {
    uint64_t number = counted(r, which);
    if (number > MOST) damage(r);
    return number > MOST ? 0 : (uint32_t)number;
}

/* An integer of either sign, within 2^28; `last` plus it must be too. */
static int integer(pdn_reader *r, int which, int sign, int last) {
    uint64_t size = counted(r, which);
    if (size > MOST) {
        damage(r);
        return last;
    }
    int change = !size ? 0 : flag(r, sign) ? -(int)size : (int)size;
    if (last + change > (int)MOST || last + change < -(int)MOST) damage(r);
    return bad(r) ? last : last + change;
}

static float step(pdn_reader *r) {
    if (!flag(r, F_SHORT_STEP)) return as_float(pdn_even(&r->coder, 32));
    r->exponent = integer(r, C_EXPONENT, F_EXPONENT_SIGN, r->exponent);
    return scaled((float)(pdn_even(&r->coder, 3) + 8), r->exponent - 4);
}

/* ---- streams ---- */

/* The next `size` bytes behind the common section; NULL where they are not there, or (checked) not as they were written. */
static const uint8_t *stream(pdn_reader *r, size_t size, int checked) {
    uint32_t sum = pdn_even(&r->coder, 32);
    const uint8_t *data = r->streams;
    if (bad(r) || size > r->left || (checked && crc(0, data, size) != sum)) {
        damage(r);
        return NULL;
    }
    r->streams += size, r->left -= size;
    return data;
}

/* Values as they are, `count` of `bytes` each, given one by one; out may be NULL. */
typedef struct {
    pdn_reader *reader;
    const uint8_t *data; /* NULL: they stand among the codes */
} source;

static source values(pdn_reader *r, size_t number, int bytes, int wanted) {
    source from = {r, NULL};
    if (number * (size_t)bytes >= INLINE_BYTES) from.data = stream(r, number * (size_t)bytes, wanted);
    return from;
}

static uint64_t value(source *from, int bytes, int apart) {
    uint64_t found = 0;
    for (int at = 0; at < bytes; at++) {
        uint64_t byte = apart ? (from->data ? *from->data++ : 0) : pdn_even(&from->reader->coder, 8);
        found |= byte << (8 * at);
    }
    return found;
}

/* ---- codes ---- */

static void put_nothing(void *out, size_t at, int32_t code) { (void)out, (void)at, (void)code; }

static pdn_put put_of(const void *out, int bytes) {
    return !out ? put_nothing : bytes == 1 ? pdn_put8 : bytes == 2 ? pdn_put16 : pdn_put32;
}

static void relax(pdn_model m) {
    pdn_forget(m.zero, m.fine ? 20 : 6);
    pdn_forget(m.more, m.fine ? 20 : 2);
    pdn_forget(m.length, (m.fine ? 10 : 1) * (PDN_WIDE + 1));
    pdn_forget(m.digits[0], (PDN_WIDE + 1) * PDN_DIGITS);
    *m.sign = PDN_HALF;
}

static pdn_limits limits_of(int bits) {
    pdn_limits found = {bits == 1 ? -1 : -(1 << (bits - 1)), bits == 1 ? 1 : (1 << (bits - 1)) - 1, bits > 1};
    return found;
}

/* The pattern in which a weight's zeros lie, or NULL. */
static pdn_zeros *pattern(pdn_reader *r, const pdn_tensor *t, size_t size) {
    if (t->rank < 2 || size < TRELLIS || !flag(r, F_PATTERN)) return NULL;
    pdn_layout of = {0, 0, 0, t->shape[1], 1};
    of.tiles = (uint32_t)flag(r, F_TILES);
    of.n = count(r, C_PATTERN_FIRST);
    of.m = count(r, C_PATTERN_SECOND);
    for (int at = 2; at < t->rank; at++) of.kernel *= t->shape[at];
    int sound = of.n && of.m && (of.tiles ? of.n <= PDN_SIDE && of.m <= PDN_SIDE && (of.inputs * of.kernel - 1) / of.m < PDN_ACROSS
                                          : of.n <= of.m && of.m <= PDN_GROUP && of.kernel <= PDN_KERNEL);
    if (!sound || bad(r)) {
        damage(r);
        return NULL;
    }
    pdn_begin_zeros(&r->zeros, of);
    return &r->zeros;
}

/* A weight's levels in one row, under the model of matrices or of vectors. */
static void row(pdn_reader *r, const pdn_tensor *t, pdn_put put, void *out, pdn_limits limits) {
    size_t size = t->codes;
    int matrix = t->rank > 1, fine = size >= PDN_FINE;
    pdn_manner how = {size >= TRELLIS && flag(r, F_DEPENDENT), NULL};
    how.zeros = pattern(r, t, size);
    if (bad(r)) return;
    if (size >= APART) {
        size_t bytes = count(r, C_STREAM);
        const uint8_t *data = stream(r, bytes, put != put_nothing);
        if (!data || put == put_nothing) return;
        pdn_fresh(r->nodes, sizeof(pdn_fine) / sizeof(pdn_context));
        pdn_model model = pdn_of_fine((pdn_fine *)(void *)r->nodes);
        pdn_decoder d;
        pdn_begin(&d, data, bytes);
        /* named one by one, so that the compiler makes a loop of each */
        if (put == pdn_put8) pdn_row(&d, &model, size, how, pdn_put8, out, limits);
        else pdn_row(&d, &model, size, how, put, out, limits);
        if (d.error || !pdn_ended(&d)) damage(r);
        return;
    }
    pdn_model model = fine ? pdn_of_fine(&r->fine[matrix]) : pdn_of_coarse(&r->coarse[matrix]);
    pdn_row(&r->coder, &model, size, how, put, out, limits);
    relax(model);
}

/* Levels of channels with widths of their own; those of no bits are zeros. */
static void channels(pdn_reader *r, const uint8_t *widths, uint32_t many, size_t size, int bytes, void *out) {
    size_t there = 0;
    pdn_decoder own, *d = &r->coder;
    pdn_coarse *models = r->by_width;
    const uint8_t *data = NULL;
    uint32_t used = 0;
    pdn_put put = put_of(out, bytes);
    for (uint32_t at = 0; at < many; at++) there += widths[at] > 0;
    const pdn_manner alone = {0, NULL};
    int apart = there * size >= APART;
    if (apart) {
        size_t length = count(r, C_STREAM);
        data = stream(r, length, out != NULL);
        if (!data || !out) return;
        pdn_fresh(r->nodes, 17 * sizeof(pdn_coarse) / sizeof(pdn_context));
        models = (pdn_coarse *)(void *)r->nodes;
        pdn_begin(&own, data, length);
        d = &own;
    }
    for (uint32_t at = 0; at < many && !d->error; at++) {
        void *to = out ? (uint8_t *)out + at * size * (size_t)bytes : NULL;
        if (!widths[at]) {
            for (size_t place = 0; place < size; place++) put(to, place, 0);
            continue;
        }
        pdn_model model = pdn_of_coarse(&models[widths[at]]);
        pdn_row(d, &model, size, alone, put, to, limits_of(widths[at]));
        used |= 1u << widths[at];
    }
    if (apart) {
        if (d->error || !pdn_ended(d)) damage(r);
        return;
    }
    for (int bits = 1; bits <= 16; bits++)
        if (used >> bits & 1) relax(pdn_of_coarse(&models[bits]));
}

/* What indices stand for, where they are not themselves, and the weight whose entries they are, if they are. */
typedef struct {
    const uint8_t *names;
    const pdn_tensor *of;
} meaning;

static const meaning themselves = {NULL, NULL};

/* Indices below `most` through a tree. */
static void indices(pdn_reader *r, size_t size, uint32_t most, pdn_put put, void *out, meaning what) {
    pdn_zeros *zeros = what.of ? pattern(r, what.of, size) : NULL;
    int width = 1;
    if (bad(r)) return;
    pdn_decoder own, *d = &r->coder;
    while ((most - 1) >> width) width++;
    if (size >= APART) {
        size_t bytes = count(r, C_STREAM);
        const uint8_t *data = stream(r, bytes, put != put_nothing);
        if (!data || put == put_nothing) return;
        pdn_begin(&own, data, bytes);
        d = &own;
    }
    pdn_fresh(r->nodes, (size_t)1 << width);
    for (size_t at = 0; at < size && !d->error; at++) {
        uint32_t index = pdn_index(d, r->nodes, width, zeros);
        if (index >= most) {
            damage(r);
            return;
        }
        put(out, at, (int32_t)(what.names ? what.names[index] : index));
    }
    if (d == &own && (d->error || !pdn_ended(d))) damage(r);
}

/* ---- tensors ---- */

static void mark(void *out, size_t at, int32_t there) { ((uint8_t *)out)[at] = (uint8_t)there; }

static void add(void *out, size_t at, int32_t there) { *(size_t *)out += (size_t)there, (void)at; }

static uint64_t of_half(uint64_t bits) {
    union { float value; uint32_t bits; } both;
    both.value = of_pattern((uint32_t)bits, floats_of[1]);
    return both.bits;
}

/* Plain values of a type, or NULL to pass over them. Where zeros are left out, the marks of what is there stand at the end of the room,
 * and are overwritten from the front as they are used. */
static void plain(pdn_reader *r, size_t size, enum pdn_type type, uint8_t *out, const pdn_tensor *of) {
    meaning marking = {NULL, of};
    int half = type == PDN_FLOAT32 && flag(r, F_HALF), sparse = flag(r, F_SPARSE);
    int bytes = type_bytes[type], stored = half ? 2 : bytes;
    size_t kept = sparse ? 0 : size;
    uint8_t *marks = out ? out + size * (size_t)(bytes - 1) : NULL;
    if (sparse) indices(r, size, 2, out ? mark : add, out ? (void *)marks : (void *)&kept, marking);
    for (size_t at = 0; sparse && out && at < size && !bad(r); at++) kept += marks[at];
    if (bad(r)) return;
    int apart = kept * (size_t)stored >= INLINE_BYTES;
    source from = values(r, kept, stored, out != NULL);
    for (size_t at = 0; !out && !apart && at < kept && !bad(r); at++) value(&from, stored, 0);
    for (size_t at = 0; out && at < size && !bad(r); at++) {
        uint64_t bits = sparse && !marks[at] ? 0 : value(&from, stored, apart);
        bits = half ? of_half(bits) : bits;
        for (int byte = 0; byte < bytes; byte++) out[at * (size_t)bytes + (size_t)byte] = (uint8_t)(bits >> (8 * byte));
    }
}

static void table(pdn_reader *r, size_t size, float *out) {
    uint32_t type = count(r, C_DTYPE) % 7;
    if (type != PDN_FLOAT32) damage(r);
    else plain(r, size, PDN_FLOAT32, (uint8_t *)out, NULL);
}

static void rounded(pdn_reader *r, const pdn_tensor *t, const pdn_buffers *to) {
    int last = t->bits;
    for (uint32_t at = 0; t->channels && at < t->shape[0] && !bad(r); at++) {
        last = integer(r, C_WIDTH, F_WIDTH_SIGN, last);
        if (last < 0 || last > t->bits || (!last && t->bits == 1)) damage(r);
        else to->widths[at] = (uint8_t)last;
    }
    if (bad(r)) return;
    int single = flag(r, F_ONE_STEP);
    size_t steps = single ? 1 : t->rank ? t->shape[0] : 0;
    if (!single && !t->rank) damage(r);
    for (size_t at = 0; at < steps && !bad(r); at++) {
        float found = single || !t->channels || to->widths[at] ? step(r) : 1.0f;
        if (to->steps) to->steps[at] = found;
    }
    for (size_t at = 1; to->steps && single && at < t->steps; at++) to->steps[at] = to->steps[0];
    if (bad(r)) return;
    if (t->channels) {
        size_t there = 0;
        for (uint32_t at = 0; at < t->shape[0]; at++) there += to->widths[at] > 0;
        if (there) channels(r, to->widths, t->shape[0], t->codes / t->shape[0], t->code_bytes, to->codes);
        else for (size_t at = 0; at < t->codes; at++) put_of(to->codes, t->code_bytes)(to->codes, at, 0);
    } else row(r, t, put_of(to->codes, t->code_bytes), to->codes, limits_of(t->bits));
}

/* The table and the indices into it, in the order of the sizes of its values. */
static void shared(pdn_reader *r, const pdn_tensor *t, const pdn_buffers *to) {
    uint8_t order[256];
    table(r, t->floats, to->floats);
    if (bad(r)) return;
    for (size_t at = 0; at < t->floats; at++) {
        size_t place = at;
        float size = to->floats[at] < 0 ? -to->floats[at] : to->floats[at];
        for (; place > 0; place--) {
            float other = to->floats[order[place - 1]];
            if ((other < 0 ? -other : other) <= size) break;
            order[place] = order[place - 1];
        }
        order[place] = (uint8_t)at;
    }
    meaning ranks = {order, t};
    indices(r, t->codes, (uint32_t)t->floats, put_of(to->codes, 1), to->codes, ranks);
}

static void exponents(pdn_reader *r, uint32_t rows, uint32_t of_row, float *out, int paired) {
    int last = 0;
    size_t at = 0;
    for (uint32_t line = 0; line < rows; line++)
        for (uint32_t place = 0; place < of_row; place++, at++) {
            if (bad(r)) return;
            if (!paired || place % 8 == 0) last = integer(r, C_POWER, F_POWER_SIGN, last);
            int power = last - (paired ? flag(r, F_LOWER) : 0);
            if (power < -149 || power > 127) damage(r);
            else if (out) out[at] = scaled(1.0f, power);
        }
}

static void put_float(void *out, size_t at, int32_t whole) { ((float *)out)[at] = (float)whole; }

static void scales(pdn_reader *r, uint32_t rows, uint32_t of_row, float *out) {
    size_t size = (size_t)rows * of_row;
    uint32_t form = count(r, C_SCALE_FORM);
    int last = 0;
    if (bad(r) || form > 4) damage(r);
    else if (form == 2 || form == 3) exponents(r, rows, of_row, out, form == 3);
    else if (form == 4) {
        uint32_t largest = count(r, C_LARGEST);
        if (largest >= PDN_NODES) damage(r);
        else indices(r, size, largest + 1, out ? put_float : put_nothing, out, themselves);
    } else for (size_t at = 0; at < size && !bad(r); at++) {
        float found;
        if (form == 1) {
            last = integer(r, C_HALF, F_HALF_SIGN, last);
            uint32_t rest = pdn_even(&r->coder, 10);
            if (last < 0 || last >= 31) damage(r);
            found = bad(r) ? 0.0f : of_pattern((uint32_t)last << 10 | rest, floats_of[1]);
        } else found = step(r);
        if (out) out[at] = found;
    }
}

/* The place of an entry's block among the steps: blocks lie along a row, channels fastest. */
static size_t block_of(const pdn_tensor *t, size_t at) {
    size_t inner = t->rank > 1 ? t->codes / t->shape[0] : t->codes, line = at / inner, place = at % inner;
    if (t->rank > 2) {
        size_t kernel = inner / t->shape[1];
        place = place % kernel * t->shape[1] + place / kernel;
    }
    return (t->rows == 1 ? 0 : line) * t->of_row + place / t->block;
}

typedef struct {
    const pdn_tensor *tensor;
    const int32_t *zeros;
    void *codes;
    int wrong;
} shifted;

/* A whole number less its zero point, as the code that it stands for. */
static void put_shifted(void *out, size_t at, int32_t level) {
    shifted *s = out;
    const pdn_tensor *t = s->tensor;
    int32_t low = t->number == PDN_UINT ? 0 : -(1 << (t->bits - 1)), found = level + (s->zeros ? s->zeros[block_of(t, at)] : 0);
    if (found < low || found > low + (1 << t->bits) - 1) s->wrong = 1;
    else put_of(s->codes, t->code_bytes)(s->codes, at, (int32_t)((uint32_t)found & ((1u << t->bits) - 1)));
}

static void mantissas(pdn_reader *r, const pdn_tensor *t, int low, void *codes) {
    size_t size = (t->codes * (size_t)low + 7) / 8, at = 0;
    int apart = size >= INLINE_BYTES;
    source from = values(r, size, 1, codes != NULL);
    uint32_t held = 0, bits = 0;
    for (size_t byte = 0; byte < size && !bad(r) && !(apart && !codes); byte++) {
        held = held << 8 | (uint32_t)value(&from, 1, apart), bits += 8;
        while (bits >= (uint32_t)low && at < t->codes) {
            bits -= (uint32_t)low;
            if (codes) ((uint16_t *)codes)[at] = (uint16_t)(((uint16_t *)codes)[at] << low | (held >> bits & ((1u << low) - 1)));
            at++;
        }
    }
}

static void blocks(pdn_reader *r, const pdn_tensor *t, const pdn_buffers *to) {
    if (t->coarse) scales(r, t->rows, 1, to->coarse);
    scales(r, t->rows, t->of_row, to->steps);
    int last = 0;
    for (size_t at = 0; at < t->zeros && !bad(r); at++) {
        last = integer(r, C_ZERO, F_ZERO_SIGN, last);
        if (last < 0 || last >= 1 << t->bits) damage(r);
        if (to->zeros) to->zeros[at] = last;
    }
    if (bad(r)) return;
    pdn_put put = put_of(to->codes, t->code_bytes);
    if (t->number >= PDN_BF16) {
        int low = t->bits > 8 ? floats_of[t->number - PDN_BF16][1] : 0;
        meaning patterns = {NULL, t};
        indices(r, t->codes, 1u << (t->bits - low), put, to->codes, patterns);
        if (low && !bad(r)) mantissas(r, t, low, to->codes);
    } else if (t->number == PDN_UINT && t->bits <= 8) indices(r, t->codes, 1u << t->bits, put, to->codes, themselves);
    else {
        shifted s = {t, t->zeros ? to->zeros : NULL, to->codes, 0};
        pdn_limits any = {-(1 << PDN_WIDE), 1 << PDN_WIDE, 1};
        row(r, t, to->codes ? put_shifted : put_nothing, &s, any);
        if (s.wrong) damage(r);
    }
}

/* ---- what a tensor is ---- */

static void shape_of(pdn_reader *r, pdn_tensor *t) {
    uint64_t size = 1, none = 0;
    if (r->follows && flag(r, F_FOLLOWS)) t->rank = 1, t->shape[0] = r->before;
    else {
        uint32_t rank = count(r, C_RANK);
        if (rank > PDN_RANK) damage(r);
        t->rank = rank > PDN_RANK ? 0 : (int)rank;
        for (int at = 0; at < t->rank; at++) t->shape[at] = count(r, C_DIMENSION);
    }
    for (int at = 0; at < t->rank; at++) {
        none |= !t->shape[at];
        size = size > MOST ? size : size * t->shape[at];
    }
    size = none ? 0 : size;
    if (size > MOST) damage(r);
    t->codes = (size_t)size;
}

static void of_blocks(pdn_reader *r, pdn_tensor *t) {
    uint32_t number = count(r, C_NUMBER);
    if (number > PDN_E2M1) {
        damage(r);
        return;
    }
    t->form = PDN_BLOCKS, t->number = (enum pdn_number)number;
    if (number <= PDN_Q) {
        uint32_t bits = count(r, C_NUMBER_BITS), fraction;
        if (bits < 1 || bits > 16) damage(r);
        fraction = number == PDN_Q && !bad(r) ? count(r, C_FRACTION) : 0;
        if (fraction > bits) damage(r);
        if (bad(r)) return;
        t->bits = (int)bits, t->fraction = (int)fraction;
    } else t->bits = 1 + floats_of[number - PDN_BF16][0] + floats_of[number - PDN_BF16][1];
    t->block = count(r, C_BLOCK);
    if (!t->block) damage(r);
    int single = flag(r, F_ONE_ROW), two = flag(r, F_TWO_LEVELS), zero = flag(r, F_ZERO_POINT);
    if (bad(r)) return;
    uint64_t rows = t->rank > 1 ? t->shape[0] : 1, inner = 1;
    for (int at = t->rank > 1; at < t->rank; at++) inner = inner > MOST ? inner : inner * t->shape[at];
    for (int at = t->rank > 1; at < t->rank; at++) inner = t->shape[at] ? inner : 0;
    t->rows = single ? 1 : (uint32_t)rows;
    uint64_t of_row = (inner + t->block - 1) / t->block;
    if (of_row > MOST || of_row * t->rows > MOST) {
        damage(r);
        return;
    }
    t->of_row = (uint32_t)of_row;
    t->steps = (size_t)(of_row * t->rows), t->coarse = two ? t->rows : 0, t->zeros = zero ? t->steps : 0;
}

static void of_rounded(pdn_reader *r, pdn_tensor *t) {
    uint32_t bits = count(r, C_BITS);
    if (bits == BLOCKED) {
        of_blocks(r, t);
        return;
    }
    t->form = PDN_ROUNDED;
    t->channels = !bits;
    if (!bits) bits = count(r, C_BITS);
    if (bits < 1 || bits > 16 || (t->channels && !t->rank)) damage(r);
    t->bits = (int)bits, t->steps = t->rank ? t->shape[0] : 1;
    if (!t->steps) t->steps = 1;
}

static void of_vectors(pdn_reader *r, pdn_tensor *t) {
    t->form = PDN_VECTORS;
    t->books = count(r, C_BOOKS), t->vectors = count(r, C_CENTROIDS), t->length = count(r, C_VECTOR);
    uint64_t line = 1, part = (uint64_t)t->books * t->length;
    for (int at = 1; at < t->rank; at++) line *= t->shape[at];
    if (bad(r) || !t->books || !t->vectors || !t->length || t->vectors > PDN_NODES || part > MOST || line % part || part * t->vectors > MOST) {
        damage(r);
        return;
    }
    t->codes /= t->length, t->floats = (size_t)(part * t->vectors);
    while ((t->vectors - 1) >> t->bits) t->bits++;
    t->bits += !t->bits;
}

static void form_of(pdn_reader *r, pdn_tensor *t) {
    if (flag(r, F_ROUNDED)) of_rounded(r, t);
    else if (flag(r, F_SHARED)) {
        t->form = PDN_SHARED, t->floats = count(r, C_CENTROIDS), t->bits = 1;
        if (t->floats < 1 || t->floats > 256) damage(r);
        while (t->bits < 8 && (t->floats - 1) >> t->bits) t->bits++;
    } else switch (count(r, C_FORM) % 3) {
        case 0:
            t->form = PDN_PLAIN, t->type = (enum pdn_type)(count(r, C_DTYPE) % 7);
            t->bits = 8 * type_bytes[t->type];
            break;
        case 1: of_vectors(r, t); break;
        default:
            t->form = PDN_HASHED, t->seed = pdn_even(&r->coder, 32), t->floats = count(r, C_VALUES), t->bits = 32;
            if (!t->floats || t->floats < t->codes / 4096) damage(r);
            t->codes = 0;
    }
    t->code_bytes = t->form == PDN_PLAIN ? type_bytes[t->type] : t->form == PDN_VECTORS ? 2 : t->bits <= 8 ? 1 : 2;
}

/* ---- what others call ---- */

int pdn_open(pdn_reader *r, const void *file, size_t size) {
    const uint8_t *data = file;
    size_t from = 8, end = size;
    if (size < 9 || data[0] != 'P' || data[1] != 'D' || data[2] != 'N') return PDN_DAMAGED;
    if ((data[3] & 0x7f) != 2) return PDN_VERSION;
    if (data[3] & 0x80) {
        if (size < 12 || word(data + 8) > size - 12) return PDN_DAMAGED;
        from = 12, end = 12 + (size_t)word(data + 8);
    }
    if (crc(crc(0, data, 4), data + 8, end - 8) != word(data + 4)) return PDN_DAMAGED;
    pdn_begin(&r->coder, data + from, end - from);
    r->streams = data + end, r->left = size - end;
    r->done = r->before = 0;
    r->follows = r->waiting = r->exponent = r->failed = 0;
    pdn_fresh(r->flags, FLAGS);
    pdn_fresh((pdn_context *)r->counts, sizeof(r->counts) / (sizeof(pdn_context)));
    pdn_fresh((pdn_context *)r->coarse, sizeof(r->coarse) / (sizeof(pdn_context)));
    pdn_fresh((pdn_context *)r->by_width, sizeof(r->by_width) / (sizeof(pdn_context)));
    pdn_fresh((pdn_context *)r->fine, sizeof(r->fine) / (sizeof(pdn_context)));
    r->tensors = count(r, C_TENSORS);
    return bad(r) ? PDN_DAMAGED : PDN_OK;
}

int pdn_next(pdn_reader *r, pdn_tensor *tensor) {
    static const pdn_tensor nothing;
    if (bad(r) || r->waiting) return PDN_DAMAGED;
    if (r->done == r->tensors) return PDN_END;
    r->now = nothing;
    shape_of(r, &r->now);
    if (!bad(r)) form_of(r, &r->now);
    if (bad(r)) return PDN_DAMAGED;
    r->done++, r->waiting = 1;
    r->follows = r->now.rank > 0, r->before = r->now.shape[0];
    *tensor = r->now;
    return PDN_TENSOR;
}

int pdn_read(pdn_reader *r, const pdn_buffers *to) {
    const pdn_tensor *t = &r->now;
    if (bad(r) || !r->waiting) return PDN_DAMAGED;
    if ((t->channels && !to->widths) || (t->floats && !to->floats) || (t->form == PDN_BLOCKS && t->zeros && to->codes && !to->zeros))
        return PDN_ROOM;
    r->waiting = 0;
    switch (t->form) {
        case PDN_ROUNDED: rounded(r, t, to); break;
        case PDN_SHARED: shared(r, t, to); break;
        case PDN_PLAIN: plain(r, t->codes, t->type, to->codes, t); break;
        case PDN_BLOCKS: blocks(r, t, to); break;
        case PDN_HASHED: table(r, t->floats, to->floats); break;
        case PDN_VECTORS:
            table(r, t->floats, to->floats);
            if (!bad(r)) indices(r, t->codes, t->vectors, put_of(to->codes, 2), to->codes, themselves);
    }
    return bad(r) ? PDN_DAMAGED : PDN_OK;
}

size_t pdn_reader_bytes(void) { return sizeof(pdn_reader); }

float pdn_value(const pdn_tensor *t, uint32_t code) {
    if (t->number >= PDN_BF16) return of_pattern(code, floats_of[t->number - PDN_BF16]);
    int32_t whole = (int32_t)code;
    if (t->number != PDN_UINT && code >> (t->bits - 1) & 1) whole -= 1 << t->bits;
    return whole < 0 ? -scaled((float)-whole, -t->fraction) : scaled((float)whole, -t->fraction);
}

static uint32_t mixed(uint32_t h) {
    h ^= h >> 16, h *= 0x85ebca6bu;
    h ^= h >> 13, h *= 0xc2b2ae35u;
    return h ^ h >> 16;
}

uint32_t pdn_bucket(uint32_t entry, uint32_t seed, uint32_t many, int *negative) {
    uint32_t h = mixed(entry ^ mixed(seed ^ 0x9e3779b9u));
    *negative = (int)(h >> 31);
    return (h & 0x7fffffffu) % many;
}
