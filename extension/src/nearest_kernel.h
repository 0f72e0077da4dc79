// The arithmetic of a search for nearest rows, compiled once per instruction set from nearest_kernel.c.
#ifndef SKIPML_NEAREST_KERNEL_H
#define SKIPML_NEAREST_KERNEL_H

#include "isa.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QUERY_BITS = 4, FACTOR_BYTES = 8, WORD_BITS = 64, PLANES = QUERY_BITS + 1 };

// A query against one centroid, as RaBitQ codes are compared with it: bit j of each value of its residual in planes[j],
// all dimensions in the last; [PLANES][n_words]. `shifted` has room for as many bytes as the planes have bits.
struct turned_query {
	size_t n_words;
	uint64_t *planes;
	uint8_t *shifted;
	float *residual;
	float c1, c2, c34, squared_distance;
};

struct nearest_kernel {
	// Squared distances, and products, of a query [width] with rows [n][width].
	void (*squared)(const float *rows, size_t n, size_t width, const float *query, float *out);
	void (*products)(const float *rows, size_t n, size_t width, const float *query, float *out);
	void (*turn)(const float *query, const float *centroid, size_t width, float squared_distance, struct turned_query *out);
	// Estimates of the squared distances of n codes.
	void (*estimate)(const struct turned_query *query, const uint8_t *codes, size_t n, size_t code_bytes, float *out);
	// Sums over d values of float or int8 rows in double: (x - q)^2, x q, x x. A sum depends on row and query alone.
	double (*squared_float)(const float *query, const void *row, size_t d);
	double (*product_float)(const float *query, const void *row, size_t d);
	double (*square_float)(const void *row, size_t d);
	double (*squared_int8)(const float *query, const void *row, size_t d);
	double (*product_int8)(const float *query, const void *row, size_t d);
	double (*square_int8)(const void *row, size_t d);
};

// Those that this processor can run, the fastest first; returns how many.
size_t nearest_kernels_usable(const struct nearest_kernel *usable[N_ISAS]);

// The distance of a row to a query as skipml/ann/metric.py defines it; `length` is the query's, asked for cosine alone. NaN for
// the cosine of a zero vector.
double nearest_distance(const struct nearest_kernel *kernel, int64_t metric, bool is_int8, const float *query, double length,
                        const void *row, size_t d);
double query_length(const struct nearest_kernel *kernel, const float *query, size_t d);

#endif
