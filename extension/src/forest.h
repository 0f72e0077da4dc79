// An ensemble of binary trees in the form that rows walk down.
#ifndef SKIPML_FOREST_H
#define SKIPML_FOREST_H

#include "cursor.h"
#include "failure.h"
#include "network.h"

enum { FOREST_GROUP = 64 }; // rows that go through a tree together

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

// Which leaves a row may still come to, for each cell that the tree's own edges divide one of its inputs into: bits, in
// words [cells][width], the last cell for what is missing.
struct sets {
	uint32_t input;
	const uint64_t *words;
};

struct tree {
	struct sets *sets; // [n_used], or none: rows walk down the nodes
	uint64_t *words;   // what the sets point into
	size_t n_used, width;
	void *leaves; // with sets [leaves][n_outputs], in the order of their bits
	size_t number; // of those with sets
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
	// The cells that the edges of all trees with sets divide each input into, those of input i from edge first_edge[i] on.
	int64_t *edges;
	uint32_t *first_edge; // [n_inputs + 1]
	uint8_t *local;       // the cell of each tree [cells of all inputs][n_sets]
	size_t n_sets;
};

// The first of the cells of input i; they are two more than its edges, the last one for what is missing.
static inline size_t first_cell(const struct forest *forest, size_t i) {
	return forest->first_edge[i] + 2 * i;
}

// Whether a node with several edges sends a key to its right.
static inline bool is_right(const struct tree *tree, const struct node *node, int64_t key) {
	const int64_t *edges = tree->edges + node->edges.first;
	size_t low = 0, high = node->edges.n;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (edges[middle] < key) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return (low % 2 == 0) != ((node->what & NODE_LOW_LEFT) != 0);
}

// Reads the ensemble that stands alone in a file; what was read is in `network` even where it fails.
bool forest_read(struct cursor *cursor, struct network *network, struct failure *failure);
void forest_free(struct forest *forest);

// Gives trees their sets where these are faster than walking; false if out of memory.
bool forest_index(struct network *network);

static inline size_t forest_scratch_bytes(const struct network *network) {
	// the keys, the sums, the cells
	return (2 * network->n_inputs + network->n_outputs) * FOREST_GROUP * sizeof(double) +
	       network->n_inputs * FOREST_GROUP * sizeof(uint32_t);
}

// As forward_function, for a network that is trees. Leaves are added in the order of the trees, in the network's dtype.
void forest_forward_float(const struct network *network, const double *const *columns, const uint32_t *rows, size_t n,
                          void *outputs, void *scratch);
void forest_forward_double(const struct network *network, const double *const *columns, const uint32_t *rows, size_t n,
                           void *outputs, void *scratch);

#endif
