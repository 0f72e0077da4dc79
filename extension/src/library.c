#include "library.h"

#include "kernel.h"
#include "model_file.h"

#include <stdlib.h>

enum { ALIGNMENT = 64, INTERFACE = 3 };

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
