#include "kernels.h"

/* Write `here` places of `wide` outputs, at most 16 of each, by way of a block that stays in registers or the first cache. */
INLINE void block(const int32_t *total, float *y, const int64_t shape[3], const float *factor, const float *bias,
                  const int64_t here, const int64_t wide) {
    float turned[16][16];
    for (int64_t at = 0; at < here; at++)
        for (int64_t out = 0; out < wide; out++)
            turned[at][out] = (float)total[at * shape[1] + out] * factor[out] + bias[out];
    for (int64_t out = 0; out < wide; out++)
        for (int64_t at = 0; at < here; at++)
            y[out * shape[2] + at] = turned[at][out];
}

void to_real(const int32_t *total, float *y, const int64_t shape[3], const float *factor, const float *bias) {
    const int64_t outputs = shape[1], places = shape[2];
    for (int64_t sample = 0; sample < shape[0]; sample++, total += outputs * places, y += outputs * places) {
        if (places == 1) {
            for (int64_t out = 0; out < outputs; out++)
                y[out] = (float)total[out] * factor[out] + bias[out];
            continue;
        }
        for (int64_t out = 0; out < outputs; out += 16)
            for (int64_t at = 0; at < places; at += 16) {
                const int64_t wide = outputs - out < 16 ? outputs - out : 16, here = places - at < 16 ? places - at : 16;
                const int32_t *from = total + at * outputs + out;
                if (wide == 16 && here == 16)
                    block(from, y + out * places + at, shape, factor + out, bias + out, 16, 16);
                else
                    block(from, y + out * places + at, shape, factor + out, bias + out, here, wide);
            }
    }
}
