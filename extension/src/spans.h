// What the interval and the CROWN pass share, compiled like them once per instruction set.
#ifndef SKIPML_SPANS_H
#define SKIPML_SPANS_H

#define REAL double

#include "bounds.h"
#include "vectors.h"

enum { VECTORS = PADDING / LANES };

// What a box does to one layer: exact values lie within `radius` of `centre`, computed ones `error` further out.
struct span {
	double *centre, *radius, *error;
};

static inline struct span take_span(double **scratch, size_t stride) {
	struct span span = {*scratch, *scratch + stride, *scratch + 2 * stride};
	*scratch += 3 * stride;
	return span;
}

// The ends of a box in the network's dtype, as its inputs are cast.
static inline void cast(const struct bounder *b, const double *from, double *to) {
	for (size_t i = 0; i < b->n_inputs; i++) {
		to[i] = b->is_float32 ? (double)(float)from[i] : from[i];
	}
}

// The spans before every activation into `before`, that of the functionals into `outputs`; false where nothing holds.
bool GLUE(trace, ISA)(const struct bounder *b, const double *lower, const double *upper, struct span *before,
                      struct span *outputs, double *scratch);

INLINE vec magnitude(vec x) {
	return (vec)((mask)x & INT64_MAX);
}

INLINE vec at(const double *place) {
	return *(const vec *)place;
}

INLINE void put(double *place, vec x) {
	*(vec *)place = x;
}

// b where one is NaN: every use has what always holds there.
INLINE vec larger(vec a, vec b) {
	return where(a > b, a, b);
}

INLINE vec smaller(vec a, vec b) {
	return where(a < b, a, b);
}

#endif
