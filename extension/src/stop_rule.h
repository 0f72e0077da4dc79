// When a search has read enough lists: the rules of skipml/ann/rules.py for one query.
#ifndef SKIPML_STOP_RULE_H
#define SKIPML_STOP_RULE_H

#include "route.h"

enum rule_kind { RULE_NPROBE = 0, RULE_LEVEL = 1, RULE_GAIN = 2, RULE_NEARNESS = 3 };

// Trees that ask one question per depth, as skipml/ann/regression.py has them.
struct rule_trees {
	size_t n, depth;
	double mean;
	const int64_t *feature; // [n][depth]
	const float *threshold; // [n][depth]
	const float *leaf;      // [n][1 << depth]
};

// What trees see is differences of logs: of what is at pairs [n_pairs][2] of places, the second -1 for none, in an array
// of the lists read, the distances at `best` among the k best rows, those of the centroids at `multiples` of the lists
// read, and at `ranks` in the order of reading. A level sees those at the ranks alone.
struct stop_rule {
	int64_t kind;
	double setting;
	size_t first;
	struct rule_trees trees;
	size_t n_looks, n_best, n_multiples, n_ranks, n_pairs;
	const int64_t *looks, *best, *multiples, *ranks, *pairs;
};

enum { MOST_RAW = 64, MOST_FEATURES = 128, ROUTE_LISTS = 256, AHEAD = 2 };

// Lists that are read at first.
size_t rule_first(const struct stop_rule *rule, struct route *route);

// Lists that shall have been read at the next look, at most `read` where that is enough; `best` [k] are the squared
// distances of the k best rows, infinite where there are fewer.
size_t rule_more(const struct stop_rule *rule, struct route *route, size_t read, const float *best, size_t k);

#endif
