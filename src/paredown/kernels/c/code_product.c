#include "kernels.h"

/* Products of whole codes: the weight's are taken out of their words in a register and looked up in a table of 16 values,
 * then multiplied with bytes. In a word, byte t has at bit s * w_bits the code of input 4 s + t.
 * Return 0, or 1 for a path that this processor has not. */
int code_product(int path, const struct product *p) {
    if (path > fastest_path())
        return 1;
#ifdef PAREDOWN_X86
    if (path == WITH_AVX512)
        code_product_avx512(p);
    else if (path == WITH_AVX2)
        code_product_avx2(p);
    else
#endif
        code_product_portable(p);
    return 0;
}
