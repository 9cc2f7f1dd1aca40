#include "kernels.h"

void pack_planes_portable(const uint8_t *codes, uint32_t *planes, int64_t rows, int64_t stride, int64_t channels, int bits) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t from = 0; from < channels; from += 32) {
            const uint8_t *at = codes + row * stride + from;
            const int64_t here = channels - from < 32 ? channels - from : 32;
            for (int j = 0; j < bits; j++) {
                uint32_t word = 0;
                for (int64_t c = 0; c < here; c++)
                    word |= (uint32_t)((at[c] >> j) & 1) << c;
                *planes++ = word;
            }
        }
}
