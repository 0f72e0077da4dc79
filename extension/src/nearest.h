// Nearest rows of a vector index: what Python lays out, and one query that is searched in the mapped files.
#ifndef SKIPML_NEAREST_H
#define SKIPML_NEAREST_H

#include "stop_rule.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum metric { METRIC_L2 = 0, METRIC_IP = 1, METRIC_COSINE = 2 };

// A rows file and its codes file, mapped, and where the values of each list lie in them. A position is the place of a row
// in the rows file. Without codes the four last pointers are NULL.
struct vector_segment {
	const uint8_t *rows, *codes;
	size_t rows_size, codes_size;
	const int64_t *starts;           // [n_lists + 1] the first position of each list
	const int64_t *vectors, *row_ids; // [n_lists] offsets
	const int64_t *deleted;          // [n_deleted] positions, ascending
	size_t n_deleted;
	const int64_t *code_counts, *code, *positions; // [n_lists]
};

// An index: `centroids` [n_lists][width] and `rotation` [width][width], whose rows turn a query to where they are, or NULL.
struct vector_index {
	int64_t metric, is_int8;
	size_t dimension, width, n_lists, code_bytes, n_segments;
	double scale, longest; // what vectors are multiplied by in the space, and the longest row there
	const float *centroids, *rotation;
	const struct vector_segment *segments;
};

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

// Whether every value of every list lies within its file: nothing else may be searched.
bool vector_index_fits(const struct vector_index *index);

// The k nearest rows in the lists that the rule reads.
enum nearest_status nearest_search(const struct vector_index *index, const struct stop_rule *rule,
                                   const struct vector_query *ask, struct vector_found *found);

#endif
