#include "kernels.h"

/* Products of bit planes: the sum over planes i of the weight and j of the input of +-2^(i+j) times a count of ones.
 *
 * TWOS: two's complement, of two bits and more. w = sum 2^i w_i, the top plane negative, x = sum 2^j x_j; counted: w_i and x_j.
 * SIGNS: w = sum 2^i s_i with s_i = 2 w_i - 1. sum_k s_ik x_jk = (n + sum_k s_ik) / 2 - popcount(w_i xor x_j), so that the
 * counts are subtracted; the rest is in the offset. With one bit on both sides it is n - 2 popcount (XNOR-Net, section 3.2).
 * TERNARY: -1, 0 and +1, as a plane of those that are negative and a plane of those that are not 0. With the input bit flipped where
 * w is negative, sum_k w_k x_jk = popcount((x_j xor negative) and not_zero) - popcount(negative): half the counts of TWOS.
 * Return 0, or 1 for a path that this processor has not. */
int bit_product(int path, const struct product *p) {
    if (path > fastest_path())
        return 1;
#ifdef PAREDOWN_X86
    if (path == WITH_AVX512)
        bit_product_avx512(p);
    else if (path == WITH_AVX2)
        bit_product_avx2(p);
    else
#endif
        bit_product_portable(p);
    return 0;
}
