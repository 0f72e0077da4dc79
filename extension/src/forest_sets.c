// Sets of leaves: which leaves of a tree a row may still come to, by the cell of each of its inputs. What all sets of a
// row have in common is its leaf. See Lucchese et al., QuickScorer, SIGIR 2015; here a set is of a whole cell, so that
// a tree takes as many steps as it has inputs, however deep it is.
#include "forest.h"

#include <stdlib.h>

enum {
	MOST_LEAVES = 256, // of a tree with sets
	MOST_CELLS = 256,  // of one of its inputs, so that a byte numbers them
	MOST_NODES = 2 * MOST_LEAVES - 1,
	MOST_EDGES = 1 << 16, // of a tree that sets are tried for
	MOST_WORDS = MOST_LEAVES / 64,
	WALK_COST = 10, SET_COST = 3, // instructions, about, of a step of a walk and of a look at a set of no words
	MOST_LOCAL_BYTES = 8 << 20,   // beyond that the caches are too small
};

struct edge {
	uint32_t input;
	int64_t key;
};

// Ascending edges, each once.
struct edges {
	struct edge *all;
	size_t n;
};

static int compare(const void *a, const void *b) {
	const struct edge *one = a, *other = b;
	if (one->input != other->input) {
		return one->input < other->input ? -1 : 1;
	}
	return (one->key > other->key) - (one->key < other->key);
}

static void sort(struct edges *edges) {
	size_t n = 0;
	qsort(edges->all, edges->n, sizeof *edges->all, compare);
	for (size_t i = 0; i < edges->n; i++) {
		if (!n || compare(&edges->all[n - 1], &edges->all[i]) != 0) {
			edges->all[n++] = edges->all[i];
		}
	}
	edges->n = n;
}

static uint32_t input_of(const struct node *node, size_t n_inputs) {
	return (uint32_t)((node->what & NODE_KEYS) % n_inputs);
}

// How many edges the nodes of a tree have in all; 0 where it cannot have sets.
static size_t count_edges(const struct tree *tree) {
	size_t n = 0;
	if (tree->n_nodes > MOST_NODES) {
		return 0;
	}
	for (size_t i = 0; i < tree->n_nodes; i++) {
		const struct node *node = &tree->nodes[i];
		bool is_several = node->what & NODE_SEVERAL;
		if (node->what & NODE_LEAF) {
			continue;
		}
		if (is_several && (!node->edges.n || node->edges.n > MOST_EDGES)) {
			return 0;
		}
		n += is_several ? node->edges.n : 1;
	}
	return n <= MOST_EDGES ? n : 0;
}

static void collect(const struct tree *tree, size_t n_inputs, struct edges *edges) {
	edges->n = 0;
	for (size_t i = 0; i < tree->n_nodes; i++) {
		const struct node *node = &tree->nodes[i];
		uint32_t input = input_of(node, n_inputs);
		if (node->what & NODE_LEAF) {
			continue;
		}
		if (!(node->what & NODE_SEVERAL)) {
			edges->all[edges->n++] = (struct edge){input, node->threshold};
			continue;
		}
		for (uint32_t k = 0; k < node->edges.n; k++) {
			edges->all[edges->n++] = (struct edge){input, tree->edges[node->edges.first + k]};
		}
	}
	sort(edges);
}

// Behind the edges of the input that edge `from` is of.
static size_t end_of_input(const struct edges *edges, size_t from) {
	size_t end = from;
	while (end < edges->n && edges->all[end].input == edges->all[from].input) {
		end++;
	}
	return end;
}

// Whether sets take less time than walking, by the ascending edges of a tree.
static bool pays(const struct tree *tree, const struct edges *edges) {
	size_t width = (tree->n_nodes / 2 + 64) / 64, cost = WALK_COST;
	for (size_t from = 0, end; from < edges->n; from = end) {
		end = end_of_input(edges, from);
		cost += SET_COST + width;
		if (end - from + 2 > MOST_CELLS) {
			return false;
		}
	}
	return cost <= WALK_COST * tree->depth;
}

// The edges of each tree that is to have sets, none for the others; false if out of memory.
static bool choose(struct network *network, struct edges *of_trees) {
	struct forest *forest = network->forest;
	for (size_t t = 0; t < forest->n_trees; t++) {
		struct edges *mine = &of_trees[t];
		size_t n = count_edges(&forest->trees[t]);
		if (!n) {
			continue;
		}
		mine->all = malloc(n * sizeof *mine->all);
		if (!mine->all) {
			return false;
		}
		collect(&forest->trees[t], network->n_inputs, mine);
		if (pays(&forest->trees[t], mine)) {
			forest->trees[t].number = forest->n_sets++;
		} else {
			mine->n = 0;
		}
	}
	return true;
}

// The cells of all inputs; false if out of memory.
static bool divide(struct network *network, const struct edges *of_trees) {
	struct forest *forest = network->forest;
	struct edges all = {NULL, 0};
	size_t n = 0;
	for (size_t t = 0; t < forest->n_trees; t++) {
		n += of_trees[t].n;
	}
	all.all = malloc((n + 1) * sizeof *all.all);
	forest->first_edge = calloc(network->n_inputs + 1, sizeof *forest->first_edge);
	if (!all.all || !forest->first_edge) {
		free(all.all);
		return false;
	}
	for (size_t t = 0; t < forest->n_trees; t++) {
		for (size_t i = 0; i < of_trees[t].n; i++) {
			all.all[all.n++] = of_trees[t].all[i];
		}
	}
	sort(&all);
	forest->edges = malloc((all.n + 1) * sizeof *forest->edges);
	for (size_t i = 0; forest->edges && i < all.n; i++) {
		forest->edges[i] = all.all[i].key;
		forest->first_edge[all.all[i].input + 1]++;
	}
	for (size_t i = 0; i < network->n_inputs; i++) {
		forest->first_edge[i + 1] += forest->first_edge[i];
	}
	free(all.all);
	return forest->edges != NULL;
}

// Writes which cell of a tree each cell of an input is part of: `mine` are the n edges that the tree has of it.
static void number_cells(const struct forest *forest, const struct tree *tree, const struct edge *mine, size_t n) {
	uint32_t input = mine->input;
	const int64_t *edges = forest->edges + forest->first_edge[input];
	size_t n_edges = forest->first_edge[input + 1] - forest->first_edge[input], k = 0;
	uint8_t *local = forest->local + first_cell(forest, input) * forest->n_sets + tree->number;
	for (size_t cell = 0; cell <= n_edges; cell++) {
		while (cell && k < n && mine[k].key <= edges[cell - 1]) {
			k++;
		}
		local[cell * forest->n_sets] = (uint8_t)k;
	}
	local[(n_edges + 1) * forest->n_sets] = (uint8_t)(n + 1);
}

// The leaves below each node, as bits.
static void leaves_below(const struct tree *tree, uint64_t (*below)[MOST_WORDS]) {
	size_t leaf = 0;
	for (size_t i = 0; i < tree->n_nodes; i++) {
		memset(below[i], 0, sizeof below[i]);
		if (tree->nodes[i].what & NODE_LEAF) {
			below[i][leaf / 64] = (uint64_t)1 << leaf % 64;
			leaf++;
		}
	}
	for (size_t i = tree->n_nodes; i-- > 0;) {
		for (size_t w = 0; !(tree->nodes[i].what & NODE_LEAF) && w < MOST_WORDS; w++) {
			below[i][w] = below[tree->nodes[i].left][w] | below[tree->nodes[i].left + 1][w];
		}
	}
}

// Takes from the sets [n + 2][width] of an input the leaves that a node which asks for it does not lead to.
static void restrict_sets(const struct tree *tree, const struct node *node, const struct edge *mine, size_t n,
                          uint64_t (*below)[MOST_WORDS], bool missing_left, uint64_t *sets) {
	for (size_t cell = 0; cell < n + 2; cell++) {
		int64_t key = cell < n ? mine[cell].key : INT64_MAX - 1; // the largest number in the cell, or one behind all edges
		bool right = node->what & NODE_SEVERAL ? is_right(tree, node, key) : key > node->threshold;
		right = cell == n + 1 ? !missing_left : right;
		for (size_t w = 0; w < tree->width; w++) {
			sets[cell * tree->width + w] &= ~below[node->left + (right ? 0 : 1)][w];
		}
	}
}

static void fill(const struct network *network, struct tree *tree, const struct edges *edges, size_t value_bytes) {
	uint64_t below[MOST_NODES][MOST_WORDS], *sets = tree->words;
	size_t leaf = 0;
	leaves_below(tree, below);
	tree->n_used = 0;
	for (size_t from = 0, end; from < edges->n; from = end) {
		end = end_of_input(edges, from);
		const struct edge *mine = edges->all + from;
		size_t n = end - from;
		number_cells(network->forest, tree, mine, n);
		for (size_t k = 0; k < (n + 2) * tree->width; k++) {
			sets[k] = below[0][k % tree->width];
		}
		for (size_t i = 0; i < tree->n_nodes; i++) {
			const struct node *node = &tree->nodes[i];
			if (!(node->what & NODE_LEAF) && input_of(node, network->n_inputs) == mine->input) {
				restrict_sets(tree, node, mine, n, below, (node->what & NODE_KEYS) < network->n_inputs, sets);
			}
		}
		tree->sets[tree->n_used++] = (struct sets){mine->input, sets};
		sets += (n + 2) * tree->width;
	}
	for (size_t i = 0; i < tree->n_nodes; i++) {
		if (tree->nodes[i].what & NODE_LEAF) {
			memcpy((uint8_t *)tree->leaves + leaf++ * value_bytes, (uint8_t *)tree->values + i * value_bytes, value_bytes);
		}
	}
}

// False if out of memory; the tree then has no sets.
static bool build(const struct network *network, struct tree *tree, const struct edges *edges) {
	size_t n_used = 0, n_leaves = tree->n_nodes / 2 + 1;
	size_t value_bytes = dtype_size(network->dtype) * network->n_outputs;
	for (size_t from = 0; from < edges->n; from = end_of_input(edges, from)) {
		n_used++;
	}
	tree->width = (n_leaves + 63) / 64;
	tree->sets = calloc(n_used, sizeof *tree->sets);
	tree->words = malloc((edges->n + 2 * n_used) * tree->width * sizeof *tree->words);
	tree->leaves = malloc(n_leaves * value_bytes);
	if (!tree->sets || !tree->words || !tree->leaves) {
		return false;
	}
	fill(network, tree, edges, value_bytes);
	return true;
}

bool forest_index(struct network *network) {
	struct forest *forest = network->forest;
	struct edges *of_trees = calloc(forest->n_trees + 1, sizeof *of_trees);
	bool done = of_trees && choose(network, of_trees);
	if (done && forest->n_sets) {
		done = divide(network, of_trees);
		size_t n_cells = done ? first_cell(forest, network->n_inputs) : 0;
		if (n_cells > MOST_LOCAL_BYTES / forest->n_sets) {
			forest->n_sets = 0;
		}
		forest->local = done && forest->n_sets ? calloc(n_cells, forest->n_sets) : NULL;
		done = done && (forest->local || !forest->n_sets);
	}
	for (size_t t = 0; of_trees && t < forest->n_trees; t++) {
		if (done && forest->n_sets && of_trees[t].n) {
			done = build(network, &forest->trees[t], &of_trees[t]);
		}
		free(of_trees[t].all);
	}
	free(of_trees);
	return done;
}
