#include "kernel.h"

#define DECLARE(isa)                                                                                                       \
	void forward_float_##isa(const struct network *, const double *const *, const uint32_t *, size_t, void *, void *);     \
	void forward_double_##isa(const struct network *, const double *const *, const uint32_t *, size_t, void *, void *);

DECLARE(baseline)
static const struct kernel BASELINE = {"baseline", 16, forward_float_baseline, forward_double_baseline};

#ifdef __x86_64__
DECLARE(avx2)
DECLARE(avx512)
static const struct kernel AVX2 = {"avx2", 32, forward_float_avx2, forward_double_avx2};
static const struct kernel AVX512 = {"avx512", 64, forward_float_avx512, forward_double_avx512};
#endif

size_t kernels_usable(const struct kernel *usable[3]) {
	size_t n = 0;
#ifdef __x86_64__
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512f")) {
		usable[n++] = &AVX512;
	}
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
		usable[n++] = &AVX2;
	}
#endif
	usable[n++] = &BASELINE;
	return n;
}
