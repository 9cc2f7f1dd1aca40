#include "kernels.h"

INLINE void spread(uint8_t *codes, uint32_t four, const int64_t count) {
    for (int64_t c = 0; c < count; c++)
        codes[c] = (uint8_t)(four >> (8 * c));
}

INLINE void each(const float *x, uint8_t *codes, const int64_t shape[3], float inverse, const int32_t levels[3]) {
    const float low = (float)(levels[1] - levels[0]), high = (float)(levels[2] - levels[0]);
    const int64_t channels = shape[1], places = shape[2];
    for (int64_t sample = 0; sample < shape[0]; sample++, x += channels * places, codes += channels * places)
        for (int64_t from = 0; from < channels; from += 4)
            for (int64_t at = 0; at < places; at += 64) {
                const int64_t wide = channels - from < 4 ? channels - from : 4, here = places - at < 64 ? places - at : 64;
                uint32_t four[64] = {0};
                for (int64_t c = 0; c < wide; c++)
                    for (int64_t i = 0; i < here; i++) {
                        float v = x[(from + c) * places + at + i] * inverse;
                        v = v > low ? v : low;
                        v = v < high ? v : high;
                        four[i] |= (uint32_t)(int32_t)((v + NEAR) - NEAR - low) << (8 * c);
                    }
                for (int64_t i = 0; i < here; i++)
                    if (wide == 4)
                        spread(codes + (at + i) * channels + from, four[i], 4);
                    else
                        spread(codes + (at + i) * channels + from, four[i], wide);
            }
}

#ifdef PAREDOWN_X86
AVX2 static void wide(const float *x, uint8_t *codes, const int64_t shape[3], float inverse, const int32_t levels[3]) {
    each(x, codes, shape, inverse, levels);
}
#endif

/* codes[sample, place, channel] = clamp(round(x[sample, channel, place] * inverse) + zero, least, most) - least.
 * shape: samples, channels, places. levels: zero, least, most. Four channels and 64 places are done at a time. */
void quantize(const float *x, uint8_t *codes, const int64_t shape[3], float inverse, const int32_t levels[3]) {
#ifdef PAREDOWN_X86
    if (fastest_path() >= WITH_AVX2) {
        wide(x, codes, shape, inverse, levels);
        return;
    }
#endif
    each(x, codes, shape, inverse, levels);
}
