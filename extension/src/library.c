#include "library.h"

#include "kernel.h"
#include "model_file.h"
#include "nearest_kernel.h"

#include <stdlib.h>

enum { ALIGNMENT = 64, INTERFACE = 4 };

int skipml_interface(void) {
	return INTERFACE;
}

struct network *skipml_open(const uint8_t *content, size_t size, struct failure *failure) {
	return model_file_read(content, size, failure);
}

void skipml_close(struct network *network) {
	network_free(network);
}

bool skipml_forward(const struct network *network, const double *const *columns, size_t n, void *outputs) {
	const struct kernel *usable[N_ISAS];
	kernels_usable(usable);
	size_t bytes = kernel_scratch_bytes(usable[0], network);
	void *scratch = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
	if (!scratch) {
		return false;
	}
	kernel_forward(usable[0], network, columns, NULL, n, outputs, scratch);
	free(scratch);
	return true;
}

bool skipml_vector_index_fits(const struct vector_index *index) {
	return vector_index_fits(index);
}

int skipml_nearest(const struct vector_index *index, const struct stop_rule *rule, const struct vector_query *ask,
                   struct vector_found *found) {
	return (int)nearest_search(index, rule, ask, found);
}

void skipml_distances(int64_t metric, bool is_int8, size_t d, const float *queries, const int64_t *which, const void *rows,
                      size_t n, double *out) {
	const struct nearest_kernel *usable[N_ISAS];
	nearest_kernels_usable(usable);
	const struct nearest_kernel *kernel = usable[0];
	double length = 0;
	for (size_t i = 0; i < n; i++) {
		const float *query = queries + (size_t)which[i] * d;
		if (metric == METRIC_COSINE && (!i || which[i] != which[i - 1])) {
			length = query_length(kernel, query, d);
		}
		const uint8_t *row = (const uint8_t *)rows + i * d * (is_int8 ? 1 : sizeof(float));
		out[i] = nearest_distance(kernel, metric, is_int8, query, length, row, d);
	}
}
