// Compiled with -DISA, -DREAL and -DVECTOR_BYTES for each instruction set and dtype.
//
// The lanes of a vector are rows, so that a row meets the same operations in the same order wherever it stands. A group
// of ROW_VECTORS vectors goes through the whole network before the next one starts: its activations stay in the cache
// next to the core, and the packed weights are read from front to back.
#include "kernel.h"
#include "vectors.h"

#include <string.h>

enum { GROUP = LANES * ROW_VECTORS };

// NaN stays NaN in both: a comparison with it is false.
INLINE vec activated(vec x, enum activation activation, REAL slope) {
	if (activation == RELU) {
		return (vec)((mask)x & ~(x < 0));
	}
	if (activation == LEAKY) {
		vec scaled = x * slope;
		return where(x > scaled, x, scaled);
	}
	return x;
}

// `n` outputs of one group: 12 sums in registers when n is PANEL.
INLINE void panel(int n, const REAL *weights, const REAL *biases, const struct op *op, const vec *in, vec *out) {
	vec sums[PANEL][ROW_VECTORS];
	for (int o = 0; o < n; o++) {
		for (int v = 0; v < ROW_VECTORS; v++) {
			sums[o][v] = biases[o] - (vec){0};
		}
	}
	for (size_t k = 0; k < op->n_in; k++, weights += n, in += ROW_VECTORS) {
		for (int o = 0; o < n; o++) {
			for (int v = 0; v < ROW_VECTORS; v++) {
				sums[o][v] += weights[o] * in[v];
			}
		}
	}
	for (int o = 0; o < n; o++) {
		for (int v = 0; v < ROW_VECTORS; v++) {
			out[o * ROW_VECTORS + v] = activated(sums[o][v], op->activation, (REAL)op->slope);
		}
	}
}

static void affine(const struct op *op, const vec *in, vec *out) {
	const REAL *weights = op->constants;
	const REAL *biases = weights + op->n_in * op->n_out;
	size_t first = 0;
	for (; first + PANEL <= op->n_out; first += PANEL) {
		panel(PANEL, weights + first * op->n_in, biases + first, op, in, out + first * ROW_VECTORS);
	}
	weights += first * op->n_in;
	biases += first;
	out += first * ROW_VECTORS;
	switch (op->n_out - first) {
	case 1:
		panel(1, weights, biases, op, in, out);
		break;
	case 2:
		panel(2, weights, biases, op, in, out);
		break;
	case 3:
		panel(3, weights, biases, op, in, out);
		break;
	}
	_Static_assert(PANEL == 4, "the cases above");
}

static void elementwise(const struct op *op, vec *values) {
	const REAL *constants = op->constants;
	for (size_t i = 0; i < op->n_out; i++) {
		for (vec *value = values + i * ROW_VECTORS; value < values + (i + 1) * ROW_VECTORS; value++) {
			switch (op->kind) {
			case SCALE:
				*value *= constants[i];
				break;
			case DIVIDE:
				*value /= constants[i];
				break;
			case SHIFT:
				*value += constants[i];
				break;
			default:
				*value = activated(*value, op->activation, (REAL)op->slope);
			}
		}
	}
}

// The inputs of a group; lanes without a row are zero.
INLINE void load(const double *const *columns, const uint32_t *rows, size_t start, size_t n, size_t n_inputs, REAL *to) {
	for (size_t i = 0; i < n_inputs; i++, to += GROUP) {
		const double *column = columns[i];
		if (n < GROUP) {
			memset(to, 0, GROUP * sizeof *to);
		}
		if (rows) {
			for (size_t r = 0; r < n; r++) {
				to[r] = (REAL)column[rows[start + r]];
			}
		} else if (n < GROUP) {
			for (size_t r = 0; r < n; r++) {
				to[r] = (REAL)column[start + r];
			}
		} else {
			for (size_t r = 0; r < GROUP; r++) {
				to[r] = (REAL)column[start + r];
			}
		}
	}
}

// -0.0 becomes 0.0, as in skipml's own forward pass.
INLINE void store(const REAL *values, size_t n, size_t n_outputs, REAL *outputs) {
	for (size_t o = 0; o < n_outputs; o++, values += GROUP) {
		for (size_t r = 0; r < n; r++) {
			outputs[r * n_outputs + o] = values[r] + (REAL)0;
		}
	}
}

void GLUE(GLUE(forward, REAL), ISA)(const struct network *network, const double *const *columns, const uint32_t *rows, size_t n,
                              void *outputs, void *scratch) {
	REAL *out = outputs;
	for (size_t start = 0; start < n; start += GROUP) {
		size_t size = n - start < GROUP ? n - start : GROUP;
		vec *now = scratch, *next = now + network->widest * ROW_VECTORS;
		load(columns, rows, start, size, network->n_inputs, (REAL *)now);
		for (const struct op *op = network->ops; op < network->ops + network->n_ops; op++) {
			if (op->kind == AFFINE) {
				affine(op, now, next);
				vec *read = now;
				now = next;
				next = read;
			} else {
				elementwise(op, now);
			}
		}
		store((const REAL *)now, size, network->n_outputs, out + start * network->n_outputs);
	}
}
