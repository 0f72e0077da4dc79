// A vector index as Python lays it out: its files, mapped, and where the values of each list and row lie in them.
#ifndef SKIPML_VECTOR_INDEX_H
#define SKIPML_VECTOR_INDEX_H

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

// Whether every value of every list lies within its file: nothing else may be searched.
bool vector_index_fits(const struct vector_index *index);

// The list of a segment that holds the row at a position.
size_t list_of(const struct vector_index *index, const struct vector_segment *segment, int64_t position);

// Where a value of so many bytes of the row at a position lies; `offsets` are those of `vectors` or `row_ids`.
const uint8_t *row_value(const struct vector_index *index, const struct vector_segment *segment, const int64_t *offsets,
                         size_t bytes, int64_t position);

bool row_is_deleted(const struct vector_segment *segment, int64_t position);

// The segment that holds a position among all segments, which becomes that in the segment.
const struct vector_segment *segment_of(const struct vector_index *index, int64_t *position);

#endif
