"""Where a hash sends each entry of a tensor, and with which sign: 32-bit unsigned arithmetic that any language repeats. Needs no torch.

In C, for entry i of the tensor in C order:

    uint32_t mix(uint32_t h) { h ^= h >> 16; h *= 0x85ebca6b; h ^= h >> 13; h *= 0xc2b2ae35; return h ^ h >> 16; }
    uint32_t h = mix(i ^ mix(seed ^ 0x9e3779b9));
    bucket = (h & 0x7fffffff) % buckets;  sign = h >> 31 ? -1 : 1;

`mix` is the finaliser of MurmurHash3 (Appleby 2011, public domain), a bijection of the 32-bit numbers.
"""

import numpy as np

FACTORS = (0x85EBCA6B, 0xC2B2AE35)
SHIFTS = (16, 13, 16)
GOLDEN = 0x9E3779B9
"""2³² divided by the golden ratio: keeps the seed 0 away from the fixed point 0 of the mixer."""
BELOW = 0x7FFFFFFF


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Return MurmurHash3's finaliser of 32-bit unsigned integers, as such."""
    found = numbers.astype(np.uint32)
    for shift, factor in zip(SHIFTS, (*FACTORS, None), strict=True):
        found = found ^ (found >> np.uint32(shift))
        if factor is not None:
            found = found * np.uint32(factor)
    return found


def start(seed: int) -> int:
    """Return what every entry's number is combined with by exclusive or, before it is mixed."""
    return int(mixed(np.array([seed ^ GOLDEN]))[0])


def hashed(size: int, buckets: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (bucket of each of `size` entries, int64; its sign, float32 of −1 and 1). seed: 0 to 2³² − 1."""
    found = mixed(np.arange(size, dtype=np.uint32) ^ np.uint32(start(seed)))
    sign = np.where(found > BELOW, np.float32(-1), np.float32(1))
    return ((found & np.uint32(BELOW)) % np.uint32(buckets)).astype(np.int64), sign
