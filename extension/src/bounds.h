// Bounds of a network's outputs over boxes, compiled once per instruction set from interval.c and crown.c.
#ifndef SKIPML_BOUNDS_H
#define SKIPML_BOUNDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PADDING = 8 }; // doubles: rows of matrices are as long as a multiple of it, filled up with zeros

// y = x @ weight + bias: weight [n_in][stride], bias [stride].
struct matrix {
	size_t n_in, n_out, stride;
	double *weight, *bias;
};

enum step_kind { MATRIX = 0, DIAGONAL = 1, ACTIVATION = 2 };

// One step of the interval pass, as skipml/bounds/interval.py prepares it. A DIAGONAL's weight is [1][stride].
struct step {
	enum step_kind kind;
	struct matrix linear;
	double *constant; // [stride]
	double relative, rounding, growth, offset;
	double slope, underflow; // of an activation, whose `rounding` is that of the product with the slope
};

struct bounder {
	bool is_float32;
	double limit;
	size_t n_inputs, n_functionals, n_steps, n_stages, widest; // the widest stride
	struct step *steps;
	struct matrix *forward, *backward; // of each stage: weights [n_in][n_out], and [n_out][n_in]
	double *slopes;                    // of the activations between the stages
};

// For `n` boxes: lower, upper [n][m]; infinite where a score might overflow. `scratch` holds bounds_scratch_doubles(),
// aligned to 64 bytes.
typedef void (*interval_function)(const struct bounder *bounder, const double *lower, const double *upper, size_t n,
                                  double *low, double *high, double *scratch);

// What CROWN gives for `n` boxes: low, high, linear low, linear high [n][m], slopes of both [n][m][d].
struct linear_bounds {
	double *low, *high, *linear_low, *linear_high, *slope_low, *slope_high;
};
typedef void (*crown_function)(const struct bounder *bounder, const double *lower, const double *upper, size_t n,
                               const struct linear_bounds *out, double *scratch);

struct bounds_kernel {
	interval_function interval;
	crown_function crown;
};

static inline size_t padded(size_t n) {
	return (n + PADDING - 1) / PADDING * PADDING;
}

static inline size_t bounds_scratch_doubles(const struct bounder *b) {
	size_t activations = b->n_stages - 1, rows = b->n_inputs + 1, functionals = 2 * b->n_functionals;
	size_t inputs = 4 * padded(b->n_inputs), spans = (3 * (activations + 2) + 1) * b->widest;
	return inputs + spans + 3 * activations * b->widest + 4 * rows * b->widest + (2 * b->widest + 1) * functionals + PADDING;
}

#endif
