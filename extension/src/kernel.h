// The forward pass, compiled once per instruction set and dtype from kernel.c.
#ifndef SKIPML_KERNEL_H
#define SKIPML_KERNEL_H

#include "forest.h"
#include "isa.h"
#include "network.h"

enum { ROW_VECTORS = 3 }; // vectors of rows that go through the network together

// Outputs [n][n_outputs], in the network's dtype, of `n` rows of columns: of the first `n` ones, or of those in `rows`.
// `scratch` holds kernel_scratch_bytes(), aligned to a vector. A row's outputs depend on nothing but the row.
typedef void (*forward_function)(const struct network *network, const double *const *columns, const uint32_t *rows,
                                 size_t n, void *outputs, void *scratch);

struct kernel {
	const char *name;
	size_t vector_bytes;
	forward_function float32, float64;
};

// Every kernel that this processor can run, the fastest first; the last one always can.
size_t kernels_usable(const struct kernel *usable[N_ISAS]);

static inline size_t kernel_scratch_bytes(const struct kernel *kernel, const struct network *network) {
	if (network->forest) {
		return forest_scratch_bytes(network);
	}
	return 2 * network->widest * ROW_VECTORS * kernel->vector_bytes; // what an op reads, and what it writes
}

static inline void kernel_forward(const struct kernel *kernel, const struct network *network, const double *const *columns,
                                  const uint32_t *rows, size_t n, void *outputs, void *scratch) {
	if (network->forest) {
		forward_function forest = network->dtype == FLOAT32 ? forest_forward_float : forest_forward_double;
		forest(network, columns, rows, n, outputs, scratch);
		return;
	}
	forward_function forward = network->dtype == FLOAT32 ? kernel->float32 : kernel->float64;
	forward(network, columns, rows, n, outputs, scratch);
}

#endif
