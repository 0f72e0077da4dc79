#include "isa.h"

size_t isas_usable(enum isa usable[N_ISAS]) {
	size_t n = 0;
#if defined __x86_64__ && !defined BASELINE_ONLY
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512f")) {
		usable[n++] = ISA_avx512;
	}
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
		usable[n++] = ISA_avx2;
	}
#endif
	usable[n++] = ISA_baseline;
	return n;
}
