// An ensemble of binary trees in the form that rows walk down.
#ifndef SKIPML_FOREST_H
#define SKIPML_FOREST_H

#include "cursor.h"
#include "failure.h"
#include "network.h"

enum { FOREST_GROUP = 16 }; // rows that go down a tree together

enum {
	NODE_INPUT = 0xffff, // in a file the input that a node asks for
	NODE_KEYS = 0x1ffff, // in memory which keys it compares: an input, or n_inputs more where NaN goes right
	NODE_LEAF = 1 << 17,
	NODE_MISSING_LEFT = 1 << 18,
	NODE_SEVERAL = 1 << 19,  // several edges in place of one threshold
	NODE_LOW_LEFT = 1 << 20, // of several edges: numbers up to the first go left
};

enum link { IDENTITY = 0, LOGISTIC = 1, EXP = 2, SOFTMAX = 3 };

// An integer for every number but NaN, in the same order.
static inline int64_t key_of(double number) {
	int64_t bits;
	number += 0.0; // -0.0 becomes 0.0
	memcpy(&bits, &number, sizeof bits);
	return bits < 0 ? bits ^ INT64_MAX : bits;
}

struct node {
	union {
		int64_t threshold; // keys up to here go left
		struct {
			uint32_t first, n;
		} edges;
	};
	uint32_t what;
	uint32_t left; // the right child lies behind it; a leaf leads to itself
};

struct tree {
	struct node *nodes; // the root first, children behind their parents
	int64_t *edges;     // keys, ascending for each node
	void *values;       // [nodes][n_outputs] in the forest's dtype, those of leaves in use
	size_t n_nodes, depth;
};

struct forest {
	enum dtype input_dtype; // what inputs are rounded to before they are compared
	enum link link;
	bool takes_nan, has_several;
	double scale, divisor;
	void *base; // n_outputs values that the leaves are added to
	struct tree *trees;
	size_t n_trees;
};

// Reads the ensemble that stands alone in a file; what was read is in `network` even where it fails.
bool forest_read(struct cursor *cursor, struct network *network, struct failure *failure);
void forest_free(struct forest *forest);

static inline size_t forest_scratch_bytes(const struct network *network) {
	return (2 * network->n_inputs + network->n_outputs) * FOREST_GROUP * sizeof(double); // the keys, and the sums
}

// As forward_function, for a network that is trees. Leaves are added in the order of the trees, in the network's dtype.
void forest_forward_float(const struct network *network, const double *const *columns, const uint32_t *rows, size_t n,
                          void *outputs, void *scratch);
void forest_forward_double(const struct network *network, const double *const *columns, const uint32_t *rows, size_t n,
                           void *outputs, void *scratch);

#endif
