/* Reads the files named, all tensors and then every second one, into rooms of exactly the size told; with sanitizers a step beyond is
 * seen. Prints how many were whole. "--fuzz SECONDS SEED FILE …" damages them without end, with checksums that fit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pdn.h"

static uint64_t state = 1;

static uint32_t draw(uint32_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return below ? (uint32_t)(state >> 33) % below : 0;
}

static void *room(size_t size) { return malloc(size ? size : 1); }

static int whole(const uint8_t *data, size_t size, unsigned step) {
    pdn_reader *reader = malloc(sizeof(pdn_reader));
    pdn_tensor t;
    int told = pdn_open(reader, data, size);
    unsigned at = 0;
    while (told == PDN_OK && (told = pdn_next(reader, &t)) == PDN_TENSOR) {
        int kept = at++ % step == 0;
        if (t.codes > 1u << 24 || t.floats > 1u << 24 || t.steps > 1u << 24) { /* a lie too large for this machine's patience */
            told = PDN_DAMAGED;
            break;
        }
        pdn_buffers to = {kept ? room(t.codes * (size_t)t.code_bytes) : NULL, kept ? room(t.steps * 4) : NULL, kept ? room(t.coarse * 4) : NULL,
                          kept ? room(t.zeros * 4) : NULL, room(t.floats * 4), t.channels ? room(t.shape[0]) : NULL};
        told = pdn_read(reader, &to);
        free(to.codes), free(to.steps), free(to.coarse), free(to.zeros), free(to.floats), free(to.widths);
    }
    free(reader);
    return told == PDN_END;
}

static uint32_t crc(uint32_t sum, const uint8_t *data, size_t size) {
    sum = ~sum;
    while (size--) {
        sum ^= *data++;
        for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (0xedb88320u & (0u - (sum & 1)));
    }
    return ~sum;
}

/* Lets the common section's checksum fit, so that damage reaches what is behind it. */
static void sign(uint8_t *data, size_t size) {
    size_t end = size;
    if (size < 12) return;
    if (data[3] & 0x80) {
        end = 12 + (size_t)(data[8] | data[9] << 8 | data[10] << 16 | (size_t)data[11] << 24);
        if (end > size) end = size;
    }
    uint32_t sum = crc(crc(0, data, 4), data + 8, end - 8);
    for (int at = 0; at < 4; at++) data[4 + at] = (uint8_t)(sum >> (8 * at));
}

static uint8_t *load(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) exit(2);
    uint8_t *data = room(1 << 22);
    *size = fread(data, 1, 1 << 22, file);
    fclose(file);
    uint8_t *own = room(*size);
    memcpy(own, data, *size);
    free(data);
    return own;
}

static void damage(uint8_t *data, size_t *size) {
    uint32_t how = draw(4), times = 1 + draw(6);
    for (uint32_t at = 0; at < times; at++) {
        size_t place = draw(2) ? draw((uint32_t)*size) : draw(*size < 60 ? (uint32_t)*size : 60);
        if (how == 0) data[place] ^= (uint8_t)(1u << draw(8));
        else if (how == 1) data[place] = (uint8_t)draw(256);
        else if (how == 2) data[place] = draw(2) ? 0 : 255;
        else *size = 9 + draw((uint32_t)*size - 9);
    }
}

static int fuzz(int seconds, char **paths, int count) {
    time_t end = time(NULL) + seconds;
    unsigned long tried = 0, passed = 0;
    while (tried % 64 || time(NULL) < end) {
        size_t size;
        uint8_t *data = load(paths[draw((uint32_t)count)], &size);
        damage(data, &size);
        uint8_t *tight = room(size); /* so that a read beyond the end is seen */
        memcpy(tight, data, size);
        if (draw(8)) sign(tight, size);
        passed += (unsigned long)whole(tight, size, 1 + draw(2));
        free(tight), free(data);
        tried++;
    }
    printf("%lu damaged files, %lu of them read\n", tried, passed);
    return 0;
}

int main(int count, char **words) {
    if (count > 4 && !strcmp(words[1], "--fuzz")) {
        state = strtoull(words[3], NULL, 10) * 2 + 1;
        return fuzz(atoi(words[2]), words + 4, count - 4);
    }
    int found = 0;
    for (int at = 1; at < count; at++) {
        size_t size;
        uint8_t *data = load(words[at], &size);
        found += whole(data, size, 1) && whole(data, size, 2);
        free(data);
    }
    printf("%d\n", found);
    return 0;
}
