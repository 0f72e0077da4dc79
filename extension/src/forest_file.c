#include "forest.h"

#include <math.h>
#include <stdlib.h>

enum { NODE_BYTES = 12, TREE_HEADER_BYTES = 8 };

// What a node may say besides its input.
static const uint32_t FLAGS = NODE_LEAF | NODE_MISSING_LEFT | NODE_SEVERAL | NODE_LOW_LEFT;

// `n` finite values; false where there are fewer or one is not finite.
static bool take_finite(struct cursor *cursor, enum dtype dtype, size_t n, void *to) {
	size_t size = dtype_size(dtype);
	if (n > cursor->left / size) {
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		if (!isfinite(value_at(cursor->at, dtype, i))) {
			return false;
		}
	}
	return take(cursor, to, n * size);
}

static bool read_edges(struct cursor *cursor, struct tree *tree, size_t n_edges) {
	for (size_t i = 0; i < n_edges; i++) {
		double edge;
		if (!take(cursor, &edge, sizeof edge) || isnan(edge)) {
			return false;
		}
		tree->edges[i] = key_of(edge);
	}
	return true;
}

static bool is_ascending(const int64_t *edges, size_t n) {
	for (size_t i = 1; i < n; i++) {
		if (edges[i] < edges[i - 1]) {
			return false;
		}
	}
	return true;
}

// Whether a node makes sense in a tree of so many edges and a model of so many inputs.
static bool usable(const struct node *node, const struct tree *tree, size_t n_edges, size_t n_inputs) {
	if (node->what & ~(FLAGS | NODE_INPUT) || (node->what & NODE_INPUT) >= n_inputs) {
		return false;
	}
	if (node->what & NODE_LEAF) {
		return true;
	}
	if (node->what & NODE_SEVERAL) {
		return node->edges.n <= n_edges && node->edges.first <= n_edges - node->edges.n &&
		       is_ascending(tree->edges + node->edges.first, node->edges.n);
	}
	return true;
}

// Takes what follows a node's flags on: the place of its edges, or its threshold as a key. False for NaN.
static bool read_condition(const uint8_t *bytes, struct node *node) {
	if (node->what & NODE_SEVERAL) {
		memcpy(&node->edges.first, bytes, sizeof node->edges.first);
		memcpy(&node->edges.n, bytes + sizeof node->edges.first, sizeof node->edges.n);
		return true;
	}
	double threshold = value_at(bytes, FLOAT64, 0);
	node->threshold = key_of(threshold);
	return !isnan(threshold);
}

// The k-th node that is no leaf has the nodes 2 k + 1 and 2 k + 2 as children, which must lie behind it.
static bool read_nodes(struct cursor *cursor, struct tree *tree, size_t n_edges, size_t n_inputs) {
	size_t n_inner = 0;
	for (size_t i = 0; i < tree->n_nodes; i++) {
		struct node *node = &tree->nodes[i];
		uint8_t condition[sizeof(double)];
		if (!take(cursor, condition, sizeof condition) || !take(cursor, &node->what, sizeof node->what) ||
		    !read_condition(condition, node) || !usable(node, tree, n_edges, n_inputs)) {
			return false;
		}
		if (node->what & NODE_LEAF) {
			*node = (struct node){.threshold = INT64_MAX, .what = NODE_LEAF, .left = (uint32_t)i};
			continue;
		}
		node->what += node->what & NODE_MISSING_LEFT ? 0 : (uint32_t)n_inputs;
		node->left = (uint32_t)(2 * n_inner + 1);
		n_inner++;
		if (node->left <= i) {
			return false;
		}
	}
	return 2 * n_inner + 1 == tree->n_nodes;
}

static bool read_leaves(struct cursor *cursor, struct tree *tree, const struct network *network) {
	size_t size = dtype_size(network->dtype) * network->n_outputs;
	for (size_t i = 0; i < tree->n_nodes; i++) {
		if (tree->nodes[i].what & NODE_LEAF &&
		    !take_finite(cursor, network->dtype, network->n_outputs, (uint8_t *)tree->values + i * size)) {
			return false;
		}
	}
	return true;
}

// How many steps lead to the deepest leaf; false if out of memory.
static bool measure(struct tree *tree) {
	uint32_t *depth = calloc(tree->n_nodes, sizeof *depth);
	for (size_t i = 0; depth && i < tree->n_nodes; i++) {
		const struct node *node = &tree->nodes[i];
		tree->depth = depth[i] > tree->depth ? depth[i] : tree->depth;
		if (!(node->what & NODE_LEAF)) {
			depth[node->left] = depth[node->left + 1] = depth[i] + 1;
		}
	}
	free(depth);
	return depth != NULL;
}

static bool read_tree(struct cursor *cursor, struct network *network, size_t number, struct failure *failure) {
	struct tree *tree = &network->forest->trees[number];
	uint32_t head[2]; // nodes, edges
	if (!take(cursor, head, sizeof head) || head[0] % 2 == 0 || head[0] > cursor->left / NODE_BYTES ||
	    head[1] > cursor->left / sizeof(double)) {
		fail(failure, "tree %zu is cut off, or has a number of nodes that no tree has", number);
		return false;
	}
	size_t leaf_bytes = dtype_size(network->dtype) * network->n_outputs;
	if (head[0] / 2 + 1 > cursor->left / leaf_bytes) {
		fail(failure, "tree %zu needs more values than the file has; it is cut off", number);
		return false;
	}
	tree->n_nodes = head[0];
	tree->nodes = calloc(head[0], sizeof *tree->nodes);
	tree->edges = calloc((size_t)head[1] + 1, sizeof *tree->edges); // one more: there may be none
	tree->values = calloc(head[0], leaf_bytes);
	if (!tree->nodes || !tree->edges || !tree->values) {
		fail(failure, "out of memory for tree %zu", number);
		return false;
	}
	if (!read_edges(cursor, tree, head[1]) || !read_nodes(cursor, tree, head[1], network->n_inputs) ||
	    !read_leaves(cursor, tree, network)) {
		fail(failure, "tree %zu has a node or a leaf that is not usable; the file is damaged", number);
		return false;
	}
	if (!measure(tree)) {
		fail(failure, "out of memory for tree %zu", number);
		return false;
	}
	network->macs += tree->depth;
	return true;
}

static bool read_head(struct cursor *cursor, struct forest *forest, uint32_t *n_trees, struct failure *failure) {
	uint32_t head[4]; // type of the inputs, link, whether NaN is taken, trees
	double numbers[2];
	if (!take(cursor, head, sizeof head) || !take(cursor, numbers, sizeof numbers)) {
		fail(failure, "the trees are cut off");
		return false;
	}
	bool known = (head[0] == FLOAT32 || head[0] == FLOAT64) && head[1] <= SOFTMAX && head[2] <= 1;
	if (!known || !isfinite(numbers[0]) || !isfinite(numbers[1]) || numbers[1] == 0) {
		fail(failure, "the trees are not usable: inputs of type %u, link %u, NaN %u, scale %g, divisor %g", head[0], head[1], head[2],
		     numbers[0], numbers[1]);
		return false;
	}
	if (head[3] > cursor->left / TREE_HEADER_BYTES) {
		fail(failure, "the file declares %u trees, more than it has", head[3]);
		return false;
	}
	forest->input_dtype = head[0];
	forest->link = head[1];
	forest->takes_nan = head[2];
	forest->scale = numbers[0];
	forest->divisor = numbers[1];
	*n_trees = head[3];
	return true;
}

bool forest_read(struct cursor *cursor, struct network *network, struct failure *failure) {
	struct forest *forest = network->forest = calloc(1, sizeof *forest);
	uint32_t n_trees;
	if (!forest) {
		fail(failure, "out of memory");
		return false;
	}
	if (!read_head(cursor, forest, &n_trees, failure)) {
		return false;
	}
	forest->base = calloc(network->n_outputs, dtype_size(network->dtype));
	forest->trees = calloc((size_t)n_trees + 1, sizeof *forest->trees); // one more: there may be none
	if (!forest->base || !forest->trees) {
		fail(failure, "out of memory for %u trees", n_trees);
		return false;
	}
	forest->n_trees = n_trees;
	if (!take_finite(cursor, network->dtype, network->n_outputs, forest->base)) {
		fail(failure, "what the leaves are added to is cut off, NaN or infinite");
		return false;
	}
	for (size_t i = 0; i < n_trees; i++) {
		if (!read_tree(cursor, network, i, failure)) {
			return false;
		}
		for (size_t k = 0; k < forest->trees[i].n_nodes; k++) {
			forest->has_several |= (forest->trees[i].nodes[k].what & NODE_SEVERAL) != 0;
		}
	}
	network->n_layers = n_trees;
	if (!forest_index(network)) {
		fail(failure, "out of memory for the leaves of %u trees", n_trees);
		return false;
	}
	return true;
}

void forest_free(struct forest *forest) {
	if (!forest) {
		return;
	}
	for (size_t i = 0; i < forest->n_trees; i++) {
		free(forest->trees[i].nodes);
		free(forest->trees[i].edges);
		free(forest->trees[i].values);
		free(forest->trees[i].sets);
		free(forest->trees[i].words);
		free(forest->trees[i].leaves);
	}
	free(forest->trees);
	free(forest->base);
	free(forest->edges);
	free(forest->first_edge);
	free(forest->local);
	free(forest);
}
