// What callers in the same process find in the shared library: the forward pass and the bounds, without DuckDB.
#ifndef SKIPML_LIBRARY_H
#define SKIPML_LIBRARY_H

#include "bounds.h"
#include "boxes.h"
#include "failure.h"
#include "nearest.h"
#include "network.h"

#define EXPORT __attribute__((visibility("default")))

// The network in a model file's bytes, or NULL with the reason as text of at most sizeof(struct failure) bytes.
EXPORT struct network *skipml_open(const uint8_t *content, size_t size, struct failure *failure);
EXPORT void skipml_close(struct network *network);

// Outputs [n][n_outputs], in the network's dtype, of `n` rows of columns; false where memory is short.
EXPORT bool skipml_forward(const struct network *network, const double *const *columns, size_t n, void *outputs);

// See nearest.h; the search returns an enum nearest_status.
EXPORT bool skipml_vector_index_fits(const struct vector_index *index);
EXPORT int skipml_nearest(const struct vector_index *index, const struct stop_rule *rule, const struct vector_query *ask,
                          struct vector_found *found);

// The distance [n] of each row [n][d] of float or int8 values to the query [d] of its number in `which` [n].
EXPORT void skipml_distances(int64_t metric, bool is_int8, size_t d, const float *queries, const int64_t *which, const void *rows,
                             size_t n, double *out);

// The number of this interface: callers that know another one must not call.
EXPORT int skipml_interface(void);

// What bounds a network, made from `shape` and `numbers` as skipml/bounds/compiled.py lays them out; NULL where memory is
// short.
EXPORT struct bounder *skipml_bounder_open(const int64_t *shape, const double *numbers);
EXPORT void skipml_bounder_close(struct bounder *bounder);

// Interval and CROWN bounds of `n` boxes, see bounds.h; false where memory is short.
EXPORT bool skipml_interval(const struct bounder *bounder, const double *lower, const double *upper, size_t n, double *low,
                            double *high);
EXPORT bool skipml_crown(const struct bounder *bounder, const double *lower, const double *upper, size_t n,
                         const struct linear_bounds *out);

// Cut boxes [n][d] down, in place, to what the polygons of their blocks leave, and round the sides to the dtype; which
// are `empty`. False where memory is short.
EXPORT bool skipml_shrink(const struct polygons *polygons, bool is_float32, size_t d, const int64_t *block, size_t n, double *lower,
                  double *upper, bool *empty);

// The halves of boxes [n][d] and the halves of these, `times` times, each along the side that `slope` [n][d] moves most;
// a single point stays. Every part and the box it comes from, in arrays with room for n << times -> how many.
EXPORT size_t skipml_halve(bool is_float32, size_t d, int times, const double *slope, size_t n, const double *lower,
                   const double *upper, double *part_lower, double *part_upper, int64_t *parent);

#endif
