#include "kernel.h"

#define DECLARE(isa)                                                                                                       \
	void forward_float_##isa(const struct network *, const double *const *, const uint32_t *, size_t, void *, void *);     \
	void forward_double_##isa(const struct network *, const double *const *, const uint32_t *, size_t, void *, void *);
EACH_ISA(DECLARE)

#define KERNEL(isa) [ISA_##isa] = {#isa, 16 << ISA_##isa, forward_float_##isa, forward_double_##isa},
static const struct kernel KERNELS[] = {EACH_ISA(KERNEL)};

size_t kernels_usable(const struct kernel *usable[N_ISAS]) {
	enum isa isas[N_ISAS];
	size_t n = isas_usable(isas);
	for (size_t i = 0; i < n; i++) {
		usable[i] = KERNELS + isas[i];
	}
	return n;
}
