// The instruction sets that kernels are compiled for, and which of them this processor has.
#ifndef SKIPML_ISA_H
#define SKIPML_ISA_H

#include <stddef.h>

#if defined __x86_64__ && !defined BASELINE_ONLY
#define EACH_ISA(DO) DO(baseline) DO(avx2) DO(avx512)
enum isa { ISA_baseline, ISA_avx2, ISA_avx512, N_ISAS };
#else
#define EACH_ISA(DO) DO(baseline)
enum isa { ISA_baseline, N_ISAS };
#endif

// Those that this processor has, the fastest first and the baseline last; returns how many.
size_t isas_usable(enum isa usable[N_ISAS]);

#endif
