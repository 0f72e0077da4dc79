// Compiled with -DREAL for each dtype.
//
// Rows go through a tree together, GROUP at a time, so that the loads of one overlap with those of the others. Where the
// tree has sets, what the sets of a row have in common is its leaf; else rows walk down, and a row that has come to its
// leaf stays there.
#include "forest.h"
#include "glue.h"

#include <math.h>

enum { GROUP = FOREST_GROUP };

#define LARGEST ((REAL)88.7f) // XGBoost takes no larger argument of exp in float32

// The nodes that rows with keys [2 n_inputs][GROUP] come to. Keys are compared because a comparison of integers is no
// branch, which no processor could predict.
INLINE void walk(const struct tree *tree, const int64_t *keys, bool has_several, uint32_t *at) {
	for (int row = 0; row < GROUP; row++) {
		at[row] = 0;
	}
	for (size_t step = 0; step < tree->depth; step++) {
		uint32_t moved = 0;
		for (int row = 0; row < GROUP; row++) {
			const struct node *node = &tree->nodes[at[row]];
			int64_t key = keys[(node->what & NODE_KEYS) * GROUP + row];
			uint32_t right = key > node->threshold;
			if (has_several && node->what & NODE_SEVERAL) {
				bool missing = key == INT64_MIN || key == INT64_MAX;
				right = missing ? key == INT64_MAX : is_right(tree, node, key);
			}
			uint32_t next = node->left + right;
			moved |= next ^ at[row];
			at[row] = next;
		}
		if (!moved) {
			return;
		}
	}
}

// The cells of n ascending edges that keys [GROUP] lie in: how many edges they are beyond. All rows take as many steps.
static void locate(const int64_t *edges, size_t n, const int64_t *keys, uint32_t *cells) {
	memset(cells, 0, GROUP * sizeof *cells);
	for (size_t left = n; left > 1; left -= left / 2) {
		size_t half = left / 2;
		for (int row = 0; row < GROUP; row++) {
			cells[row] += edges[cells[row] + half - 1] < keys[row] ? (uint32_t)half : 0;
		}
	}
	for (int row = 0; n && row < GROUP; row++) {
		cells[row] += edges[cells[row]] < keys[row];
	}
	for (int row = 0; row < GROUP; row++) {
		cells[row] = keys[row] == INT64_MIN ? (uint32_t)n + 1 : cells[row];
	}
}

// Where the cells of rows begin in `local`, for all inputs [n_inputs][GROUP].
static void locate_all(const struct network *network, const int64_t *keys, uint32_t *places) {
	const struct forest *forest = network->forest;
	for (size_t i = 0; forest->n_sets && i < network->n_inputs; i++, keys += GROUP, places += GROUP) {
		size_t first = forest->first_edge[i], n = forest->first_edge[i + 1] - first;
		if (!n) {
			continue;
		}
		locate(forest->edges + first, n, keys, places);
		for (int row = 0; row < GROUP; row++) {
			places[row] = (uint32_t)((places[row] + first_cell(forest, i)) * forest->n_sets);
		}
	}
}

// Adds the leaf that the sets of each row have in common to sums [n_outputs][GROUP]; one is left, as each condition of a
// tree rules out one side.
INLINE void look_up(const struct tree *tree, const uint8_t *restrict local, const uint32_t *restrict places, size_t n_used,
                    size_t width, size_t n_outputs, REAL *restrict sums) {
	const struct sets *restrict sets = tree->sets;
	const REAL *restrict leaves = tree->leaves;
	for (int row = 0; row < GROUP; row++) {
		uint64_t common[4];
		for (size_t k = 0; k < n_used; k++) {
			const uint64_t *words = sets[k].words + local[places[sets[k].input * GROUP + row]] * width;
			for (size_t w = 0; w < width; w++) {
				common[w] = k ? common[w] & words[w] : words[w];
			}
		}
		uint64_t word = common[width - 1];
		uint32_t start = 64 * (uint32_t)(width - 1);
		for (size_t w = width - 1; w-- > 0;) {
			start = common[w] ? 64 * (uint32_t)w : start;
			word = common[w] ? common[w] : word;
		}
		const REAL *leaf = leaves + (start + (uint32_t)__builtin_ctzll(word)) * n_outputs;
		for (size_t o = 0; o < n_outputs; o++) {
			sums[o * GROUP + row] += leaf[o];
		}
	}
}

// The same with the usual numbers of inputs, words and outputs known to the compiler.
INLINE void look_up_some(const struct tree *tree, const uint8_t *local, const uint32_t *places, size_t width, size_t n_outputs,
                         REAL *sums) {
	switch (tree->n_used) {
	case 1:
		look_up(tree, local, places, 1, width, n_outputs, sums);
		break;
	case 2:
		look_up(tree, local, places, 2, width, n_outputs, sums);
		break;
	case 3:
		look_up(tree, local, places, 3, width, n_outputs, sums);
		break;
	case 4:
		look_up(tree, local, places, 4, width, n_outputs, sums);
		break;
	default:
		look_up(tree, local, places, tree->n_used, width, n_outputs, sums);
	}
}

static void add_by_sets(const struct tree *tree, const uint8_t *local, const uint32_t *places, size_t n_outputs, REAL *sums) {
	if (n_outputs > 1) {
		look_up(tree, local, places, tree->n_used, tree->width, n_outputs, sums);
	} else if (tree->width == 1) {
		look_up_some(tree, local, places, 1, 1, sums);
	} else if (tree->width == 4) {
		look_up_some(tree, local, places, 4, 1, sums);
	} else {
		look_up_some(tree, local, places, tree->width, 1, sums);
	}
}

// Adds the leaves that rows have walked to [GROUP] to sums [n_outputs][GROUP].
static void add(const struct tree *tree, const uint32_t *at, size_t n_outputs, REAL *sums) {
	const REAL *values = tree->values;
	for (size_t o = 0; o < n_outputs; o++) {
		for (int row = 0; row < GROUP; row++) {
			sums[o * GROUP + row] += values[at[row] * n_outputs + o];
		}
	}
}

static REAL linked(const struct forest *forest, REAL sum) {
	if (forest->link == LOGISTIC) {
		REAL opposite = -(sum * (REAL)forest->scale);
		opposite = sizeof(REAL) == sizeof(float) && opposite > LARGEST ? LARGEST : opposite;
		return 1 / ((REAL)exp((double)opposite) + 1);
	}
	return forest->link == EXP ? (REAL)exp((double)sum) : sum;
}

static void softmax(size_t n, REAL *outputs) {
	REAL most = outputs[0];
	double total = 0;
	for (size_t o = 1; o < n; o++) {
		most = outputs[o] > most ? outputs[o] : most;
	}
	for (size_t o = 0; o < n; o++) {
		outputs[o] = (REAL)exp((double)(outputs[o] - most));
		total += (double)outputs[o];
	}
	for (size_t o = 0; o < n; o++) {
		outputs[o] /= (REAL)total;
	}
}

// Sums [n_outputs][GROUP] of the first `n` rows to outputs [n][n_outputs]. -0.0 becomes 0.0.
static void finish(const struct network *network, const REAL *sums, const bool *has_nan, size_t n, REAL *outputs) {
	const struct forest *forest = network->forest;
	size_t n_outputs = network->n_outputs;
	for (size_t row = 0; row < n; row++, outputs += n_outputs) {
		for (size_t o = 0; o < n_outputs; o++) {
			REAL sum = sums[o * GROUP + row];
			sum = (forest->divisor == 1 ? sum : sum / (REAL)forest->divisor) + 0;
			outputs[o] = !forest->takes_nan && has_nan[row] ? NAN : linked(forest, sum);
		}
		if (forest->link == SOFTMAX) {
			softmax(n_outputs, outputs);
		}
	}
}

// The keys of a group's inputs, rounded to their type, first for nodes that send NaN left, then for those that send it
// right; places without a row are zero. Which rows have a NaN.
static void load(const struct network *network, const double *const *columns, const uint32_t *rows, size_t start, size_t n,
                 int64_t *keys, bool *has_nan) {
	bool narrow = network->forest->input_dtype == FLOAT32;
	int64_t *others = keys + network->n_inputs * GROUP;
	memset(has_nan, 0, GROUP * sizeof *has_nan);
	for (size_t i = 0; i < network->n_inputs; i++, keys += GROUP, others += GROUP) {
		for (size_t row = 0; row < GROUP; row++) {
			double x = row < n ? columns[i][rows ? rows[start + row] : start + row] : 0;
			x = narrow ? (double)(float)x : x;
			keys[row] = x == x ? key_of(x) : INT64_MIN;
			others[row] = x == x ? key_of(x) : INT64_MAX;
			has_nan[row] |= x != x;
		}
	}
}

void GLUE(forest_forward, REAL)(const struct network *network, const double *const *columns, const uint32_t *rows, size_t n,
                                void *outputs, void *scratch) {
	const struct forest *forest = network->forest;
	const REAL *base = forest->base;
	int64_t *keys = scratch;
	REAL *sums = (REAL *)(keys + 2 * network->n_inputs * GROUP), *out = outputs;
	uint32_t *places = (uint32_t *)(sums + network->n_outputs * GROUP);
	uint32_t at[GROUP];
	bool has_nan[GROUP];
	for (size_t start = 0; start < n; start += GROUP) {
		size_t some = n - start < GROUP ? n - start : GROUP;
		load(network, columns, rows, start, some, keys, has_nan);
		locate_all(network, keys, places);
		for (size_t i = 0; i < network->n_outputs * GROUP; i++) {
			sums[i] = base[i / GROUP];
		}
		for (const struct tree *tree = forest->trees; tree < forest->trees + forest->n_trees; tree++) {
			if (tree->n_used) {
				add_by_sets(tree, forest->local + tree->number, places, network->n_outputs, sums);
				continue;
			}
			if (forest->has_several) {
				walk(tree, keys, true, at);
			} else {
				walk(tree, keys, false, at);
			}
			add(tree, at, network->n_outputs, sums);
		}
		finish(network, sums, has_nan, some, out + start * network->n_outputs);
	}
}
