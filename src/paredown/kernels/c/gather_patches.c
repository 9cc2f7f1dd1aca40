#include "kernels.h"

/* Copy one tap of every window of a picture, pixels of `size` bytes; a constant size makes each copy a move or two. */
INLINE void tap(const struct patches *p, int64_t picture, const int64_t at[2], size_t size) {
    const int64_t ky = at[0], kx = at[1];
    const uint8_t *pixels = p->x + picture * p->height * p->width * p->pixel_bytes;
    uint8_t *row = p->rows + picture * p->out_height * p->out_width * p->row_bytes + (ky * p->kernel[1] + kx) * p->pixel_bytes;
    const int64_t step = p->stride[1], shift = kx * p->dilation[1] - p->padding[1];
    int64_t first = shift < 0 ? (-shift + step - 1) / step : 0, last = p->width > shift ? (p->width - shift + step - 1) / step : 0;
    last = last < p->out_width ? last : p->out_width;
    first = first < last ? first : last;
    for (int64_t oy = 0; oy < p->out_height; oy++) {
        const int64_t y = oy * p->stride[0] + ky * p->dilation[0] - p->padding[0];
        const int64_t from = y >= 0 && y < p->height ? first : 0, to = y >= 0 && y < p->height ? last : 0;
        const uint8_t *line = pixels + (y * p->width + shift) * p->pixel_bytes;
        for (int64_t ox = 0; ox < from; ox++, row += p->row_bytes)
            memset(row, 0, size);
        for (int64_t ox = from; ox < to; ox++, row += p->row_bytes)
            memcpy(row, line + ox * step * p->pixel_bytes, size);
        for (int64_t ox = to; ox < p->out_width; ox++, row += p->row_bytes)
            memset(row, 0, size);
    }
}

/* Lay out the windows of convolutions as rows; places outside the picture, and what is behind a row's last pixel, are zeros. */
void gather_patches(const struct patches *p) {
    const int64_t full = p->kernel[0] * p->kernel[1] * p->pixel_bytes, rows = p->pictures * p->out_height * p->out_width;
    for (int64_t row = 0; row < rows && full < p->row_bytes; row++)
        memset(p->rows + row * p->row_bytes + full, 0, (size_t)(p->row_bytes - full));
    for (int64_t picture = 0; picture < p->pictures; picture++)
        for (int64_t tap_at = 0; tap_at < p->kernel[0] * p->kernel[1]; tap_at++) {
            const int64_t at[2] = {tap_at / p->kernel[1], tap_at % p->kernel[1]};
            switch (p->pixel_bytes) {
            case 4: tap(p, picture, at, 4); break;
            case 8: tap(p, picture, at, 8); break;
            case 16: tap(p, picture, at, 16); break;
            case 32: tap(p, picture, at, 32); break;
            case 64: tap(p, picture, at, 64); break;
            default: tap(p, picture, at, (size_t)p->pixel_bytes);
            }
        }
}
