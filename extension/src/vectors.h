// Vectors of REAL numbers, as wide as VECTOR_BYTES, for what is compiled once per instruction set (ISA).
#ifndef SKIPML_VECTORS_H
#define SKIPML_VECTORS_H

#include "glue.h"

#include <stdint.h>

typedef REAL vec __attribute__((vector_size(VECTOR_BYTES)));
typedef __typeof__((vec){0} < (vec){0}) mask;

enum { LANES = VECTOR_BYTES / sizeof(REAL) };

INLINE vec where(mask condition, vec yes, vec no) {
	return (vec)(((mask)yes & condition) | ((mask)no & ~condition));
}

#endif
