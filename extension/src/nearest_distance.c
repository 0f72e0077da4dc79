#include "nearest_kernel.h"

#include "nearest.h"

#include <math.h>

#define DECLARE(isa) extern const struct nearest_kernel nearest_kernel_##isa;
EACH_ISA(DECLARE)

#define KERNEL(isa) [ISA_##isa] = &nearest_kernel_##isa,
static const struct nearest_kernel *const KERNELS[] = {EACH_ISA(KERNEL)};

size_t nearest_kernels_usable(const struct nearest_kernel *usable[N_ISAS]) {
	enum isa isas[N_ISAS];
	size_t n = isas_usable(isas);
	for (size_t i = 0; i < n; i++) {
		usable[i] = KERNELS[isas[i]];
	}
	return n;
}

double query_length(const struct nearest_kernel *kernel, const float *query, size_t d) {
	return sqrt(kernel->square_float(query, d));
}

double nearest_distance(const struct nearest_kernel *kernel, int64_t metric, bool is_int8, const float *query, double length,
                        const void *row, size_t d) {
	if (metric == METRIC_L2) {
		return sqrt((is_int8 ? kernel->squared_int8 : kernel->squared_float)(query, row, d));
	}
	double product = (is_int8 ? kernel->product_int8 : kernel->product_float)(query, row, d);
	if (metric == METRIC_IP) {
		return -product;
	}
	// the root of each by itself, as the product of two squares may overflow
	double cosine = product / (sqrt((is_int8 ? kernel->square_int8 : kernel->square_float)(row, d)) * length);
	return 1 - (cosine > 1 ? 1 : cosine < -1 ? -1 : cosine); // NaN stays
}
