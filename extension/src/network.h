// A feed-forward network in the form that the kernels read, weights packed in the order of use; or trees.
#ifndef SKIPML_NETWORK_H
#define SKIPML_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	MAX_WIDTH = 65536, // inputs, outputs, values between two ops
	MAX_OPS = 4096,
	PANEL = 4, // outputs computed together: their weights for one input lie side by side
};

enum dtype { FLOAT32 = 1, FLOAT64 = 2 };

enum op_kind { AFFINE = 1, SCALE = 2, DIVIDE = 3, SHIFT = 4, LEAKY_RELU = 5, TREES = 6 };

enum activation { NONE, RELU, LEAKY };

struct op {
	enum op_kind kind;
	enum activation activation; // of LEAKY_RELU, or of the one that follows an AFFINE and is done with it
	double slope;
	size_t n_in, n_out;
	// AFFINE: panels of PANEL outputs, the last one of n_out % PANEL, each [n_in][outputs], then the n_out biases.
	// SCALE, DIVIDE, SHIFT: n_out values. In the network's dtype.
	void *constants;
};

struct network {
	enum dtype dtype;
	size_t n_inputs, n_outputs, widest, n_ops;
	size_t n_layers; // AFFINE ops, or trees
	uint64_t macs;   // multiply-accumulates per row, or comparisons
	struct op *ops;
	struct forest *forest; // in place of ops, or NULL
};

static inline size_t dtype_size(enum dtype dtype) {
	return dtype == FLOAT32 ? sizeof(float) : sizeof(double);
}

void network_free(struct network *network);

#endif
