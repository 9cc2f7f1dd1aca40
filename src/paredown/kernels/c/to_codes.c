#include "kernels.h"

INLINE void each(const int32_t *total, uint8_t *y, const int64_t shape[2], const float *factor, const int32_t levels[3]) {
    const float low = (float)(levels[1] - levels[0]), high = (float)(levels[2] - levels[0]), zero = (float)levels[0];
    const int64_t rows = shape[0], outputs = shape[1];
    for (int64_t row = 0; row < rows; row++)
        for (int64_t from = 0; from < outputs; from += 64) {
            const int64_t here = outputs - from < 64 ? outputs - from : 64;
            int32_t near[64];
            for (int64_t i = 0; i < here; i++) {
                float v = (float)total[row * outputs + from + i] * factor[from + i];
                v = v > low ? v : low;
                v = v < high ? v : high;
                near[i] = (int32_t)((v + NEAR) - NEAR + zero);
            }
            for (int64_t i = 0; i < here; i++)
                y[row * outputs + from + i] = (uint8_t)near[i];
        }
}

#ifdef PAREDOWN_X86
AVX2 static void wide(const int32_t *total, uint8_t *y, const int64_t shape[2], const float *factor, const int32_t levels[3]) {
    each(total, y, shape, factor, levels);
}
#endif

/* y[row, output] = clamp(round(total * factor[output]) + zero, least, most) as a byte; shape: rows, outputs.
 * levels: zero, least, most. Rounded to the nearest integer, ties to even. */
void to_codes(const int32_t *total, uint8_t *y, const int64_t shape[2], const float *factor, const int32_t levels[3]) {
#ifdef PAREDOWN_X86
    if (fastest_path() >= WITH_AVX2) {
        wide(total, y, shape, factor, levels);
        return;
    }
#endif
    each(total, y, shape, factor, levels);
}
