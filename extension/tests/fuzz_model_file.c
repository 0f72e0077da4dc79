// Reads mutated model files: `fuzz_model_file FILE... COUNT`. Meant to run with the sanitizers. Half of the
// mutations get a right checksum, so that they pass it and reach what lies behind.
#include "kernel.h"
#include "model_file.h"
#include "sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;

static size_t below(size_t n) {
	state = state * 6364136223846793005u + 1442695040888963407u;
	return n ? (size_t)(state >> 33) % n : 0;
}

// Numbers at which sizes go wrong.
static uint32_t odd_number(void) {
	static const uint32_t odd[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 255, 4096, 4097, 65535, 65536, 65537, 0x7fffffff, 0x80000000, 0xffffffff};
	return odd[below(sizeof odd / sizeof *odd)];
}

static size_t mutate(uint8_t *bytes, size_t size, size_t capacity) {
	size_t at = below(size < 200 || below(2) ? size : 200); // headers are at the front
	uint32_t number = odd_number();
	switch (below(5)) {
	case 0:
		bytes[at] ^= (uint8_t)(1 << below(8));
		return size;
	case 1:
		at = at / 4 * 4;
		memcpy(bytes + at, &number, size - at < 4 ? size - at : 4);
		return size;
	case 2:
		return below(size + 1);
	case 3: {
		size_t more = below(64);
		more = size + more > capacity ? capacity - size : more;
		memset(bytes + size, (int)below(256), more);
		return size + more;
	}
	default: {
		size_t from = below(size), n = below(size - (from > at ? from : at) + 1);
		memmove(bytes + at, bytes + from, n);
		return size;
	}
	}
}

static void use(const struct network *network) {
	static const double values[100] = {1, -2, 3};
	const double **columns = malloc(network->n_inputs * sizeof *columns);
	for (size_t i = 0; i < network->n_inputs; i++) {
		columns[i] = values;
	}
	const struct kernel *usable[N_ISAS];
	kernels_usable(usable);
	void *scratch = aligned_alloc(64, (kernel_scratch_bytes(usable[0], network) + 63) / 64 * 64);
	void *outputs = malloc(100 * network->n_outputs * dtype_size(network->dtype));
	kernel_forward(usable[0], network, columns, NULL, 100, outputs, scratch);
	free(outputs);
	free(scratch);
	free(columns);
}

int main(int argc, char **argv) {
	if (argc < 3) {
		puts("usage: fuzz_model_file FILE... COUNT");
		return 2;
	}
	long count = atol(argv[argc - 1]), read = 0;
	struct failure failure;
	for (int file = 1; file < argc - 1; file++) {
		size_t whole;
		uint8_t *original = model_file_bytes(argv[file], &whole, &failure);
		struct network *intact = original ? model_file_read(original, whole, &failure) : NULL;
		if (!intact) {
			printf("%s: %s\n", argv[file], failure.text);
			return 1;
		}
		network_free(intact);
		for (long i = 0; i < count; i++) {
			state = (uint64_t)i * 1000003 + (uint64_t)file; // so that a failure can be repeated
			// An allocation of exactly the size, so that a read behind the end is seen.
			size_t capacity = whole + 64, size = whole;
			uint8_t *bytes = malloc(capacity);
			memcpy(bytes, original, whole);
			for (size_t n = 1 + below(4); n && size; n--) {
				size = mutate(bytes, size, capacity);
			}
			if (below(2) && size >= SHA256_BYTES) {
				sha256(bytes, size - SHA256_BYTES, bytes + size - SHA256_BYTES);
			}
			uint8_t *exact = malloc(size + !size);
			memcpy(exact, bytes, size);
			struct network *network = model_file_read(exact, size, &failure);
			if (network) {
				read++;
				use(network);
			}
			network_free(network);
			free(exact);
			free(bytes);
		}
		free(original);
	}
	printf("%ld of %ld mutated files were usable\n", read, count * (argc - 2));
	return 0;
}
