#include "rows.h"

#include <stdlib.h>
#include <string.h>

bool rows_valid(duckdb_data_chunk chunk, duckdb_vector output, struct rows *rows) {
	size_t n = duckdb_data_chunk_get_size(chunk), n_columns = duckdb_data_chunk_get_column_count(chunk);
	*rows = (struct rows){NULL, n};
	size_t n_words = (n + 63) / 64;
	uint64_t *valid = NULL;
	for (size_t column = 0; column < n_columns; column++) {
		const uint64_t *validity = duckdb_vector_get_validity(duckdb_data_chunk_get_vector(chunk, column));
		if (!validity) {
			continue; // no NULL
		}
		if (!valid) {
			duckdb_vector_ensure_validity_writable(output);
			valid = duckdb_vector_get_validity(output);
			memset(valid, 0xff, n_words * sizeof *valid);
		}
		for (size_t word = 0; word < n_words; word++) {
			valid[word] &= validity[word];
		}
	}
	if (!valid) {
		return true;
	}
	rows->at = malloc((n + 1) * sizeof *rows->at); // one more: there may be none
	if (!rows->at) {
		return false;
	}
	rows->n = 0;
	for (size_t row = 0; row < n; row++) {
		rows->at[rows->n] = (uint32_t)row;
		rows->n += valid[row / 64] >> row % 64 & 1;
	}
	return true;
}

static bool equal_names(const duckdb_string_t *a, const duckdb_string_t *b) {
	if (memcmp(a, b, sizeof *a) == 0) {
		return true; // the usual case: one constant, or a short name
	}
	uint32_t length = duckdb_string_t_length(*a);
	return length == duckdb_string_t_length(*b) &&
	       memcmp(duckdb_string_t_data((duckdb_string_t *)a), duckdb_string_t_data((duckdb_string_t *)b), length) == 0;
}

bool rows_of_first_name(struct rows *pending, const duckdb_string_t *names, struct rows *same) {
	const duckdb_string_t *first = &names[pending->at ? pending->at[0] : 0];
	size_t n = 1;
	while (n < pending->n && equal_names(first, &names[pending->at ? pending->at[n] : n])) {
		n++;
	}
	if (n == pending->n) {
		*same = *pending;
		*pending = (struct rows){NULL, 0};
		return true;
	}
	*same = (struct rows){malloc(pending->n * sizeof *same->at), 0};
	struct rows others = {malloc(pending->n * sizeof *others.at), 0};
	if (!same->at || !others.at) {
		free(same->at);
		free(others.at);
		*same = (struct rows){NULL, 0};
		return false;
	}
	for (size_t i = 0; i < pending->n; i++) {
		uint32_t row = pending->at ? pending->at[i] : (uint32_t)i;
		struct rows *where = equal_names(first, &names[row]) ? same : &others;
		where->at[where->n++] = row;
	}
	free(pending->at);
	*pending = others;
	return true;
}
