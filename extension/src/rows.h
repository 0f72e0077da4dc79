// Which rows of a chunk are scored, and with which model.
#ifndef SKIPML_ROWS_H
#define SKIPML_ROWS_H

#include "extension.h"

struct rows {
	uint32_t *at; // NULL stands for all rows of the chunk
	size_t n;
};

// The rows without a NULL argument; the others become NULL in `output`. False if out of memory.
bool rows_valid(duckdb_data_chunk chunk, duckdb_vector output, struct rows *rows);

// Takes the rows from `pending` that have the same name as its first, and leaves the others there. False if out of
// memory.
bool rows_of_first_name(struct rows *pending, const duckdb_string_t *names, struct rows *same);

#endif
