#include "isa.h"
#include "nearest_kernel.h"

#include <math.h>

#define DECLARE(isa) extern const struct nearest_kernel nearest_kernel_##isa;
EACH_ISA(DECLARE)

#define KERNEL(isa) [ISA_##isa] = &nearest_kernel_##isa,
static const struct nearest_kernel *const KERNELS[] = {EACH_ISA(KERNEL)};

const struct nearest_kernel *nearest_kernel_usable(void) {
	enum isa isas[N_ISAS];
	isas_usable(isas);
	return KERNELS[isas[0]];
}

double query_length(const struct nearest_kernel *kernel, const float *query, size_t d) {
	return sqrt(kernel->square_float(query, d));
}

double nearest_distance(const struct nearest_kernel *kernel, int64_t metric, bool is_int8, const float *query, double length,
                        const void *row, size_t d) {
	if (metric == 0) {
		return sqrt((is_int8 ? kernel->squared_int8 : kernel->squared_float)(query, row, d));
	}
	double product = (is_int8 ? kernel->product_int8 : kernel->product_float)(query, row, d);
	if (metric == 1) {
		return -product;
	}
	// the root of each by itself, as the product of two squares may overflow
	double cosine = product / (sqrt((is_int8 ? kernel->square_int8 : kernel->square_float)(row, d)) * length);
	return 1 - (cosine > 1 ? 1 : cosine < -1 ? -1 : cosine); // NaN stays
}
