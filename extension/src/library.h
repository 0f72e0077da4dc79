// What callers in the same process find in the shared library: the forward pass without DuckDB.
#ifndef SKIPML_LIBRARY_H
#define SKIPML_LIBRARY_H

#include "failure.h"
#include "network.h"

#define EXPORT __attribute__((visibility("default")))

// The network in a model file's bytes, or NULL with the reason as text of at most sizeof(struct failure) bytes.
EXPORT struct network *skipml_open(const uint8_t *content, size_t size, struct failure *failure);
EXPORT void skipml_close(struct network *network);

// Outputs [n][n_outputs], in the network's dtype, of `n` rows of columns; false where memory is short.
EXPORT bool skipml_forward(const struct network *network, const double *const *columns, size_t n, void *outputs);

#endif
