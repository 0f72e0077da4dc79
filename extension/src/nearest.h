// Nearest rows of a vector index: one query that is searched in the mapped files.
#ifndef SKIPML_NEAREST_H
#define SKIPML_NEAREST_H

#include "stop_rule.h"
#include "vector_index.h"

#include <stddef.h>
#include <stdint.h>

// What is asked: the k nearest rows to a query [dimension] among the n_candidates best by their codes.
struct vector_query {
	const float *query;
	size_t k, n_candidates;
};

// What was found [k], nearest first, and read.
struct vector_found {
	int64_t *position, *row_id, *list;
	double *distance;
	int64_t n, lists, scanned, vectors, bytes;
};

enum nearest_status { NEAREST_FOUND = 0, NEAREST_NO_MEMORY = 1, NEAREST_DAMAGED = 2, NEAREST_NOT_FINITE = 3 };

// The k nearest rows in the lists that the rule reads.
enum nearest_status nearest_search(const struct vector_index *index, const struct stop_rule *rule,
                                   const struct vector_query *ask, struct vector_found *found);

#endif
