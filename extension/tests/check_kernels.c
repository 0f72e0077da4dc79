// Runs every kernel of this processor against a plain loop in long double, and against itself in other places.
#include "kernel.h"
#include "model_file.h"
#include "sha256.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 211, MAX_INPUTS = 70 };
static uint64_t state = 1;

static double uniform(void) {
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (double)(state >> 11) / 9007199254740992.0 * 2 - 1;
}

struct builder {
	uint8_t bytes[1 << 20];
	size_t size;
	enum dtype dtype;
};

static void add(struct builder *builder, const void *data, size_t size) {
	memcpy(builder->bytes + builder->size, data, size);
	builder->size += size;
}

static void add_number(struct builder *builder, uint32_t number) {
	add(builder, &number, sizeof number);
}

static void add_values(struct builder *builder, size_t n) {
	for (size_t i = 0; i < n; i++) {
		double wide = uniform();
		float narrow = (float)wide;
		add(builder, builder->dtype == FLOAT32 ? (void *)&narrow : (void *)&wide, dtype_size(builder->dtype));
	}
}

// scale, shift, divide, then affine layers of these widths with activations between them.
static struct network *build(enum dtype dtype, const uint32_t *widths, uint32_t n_layers, double slope) {
	static struct builder builder;
	builder.size = 0;
	builder.dtype = dtype;
	add(&builder, "SKIPMLNN", 8);
	uint32_t header[] = {1, dtype, widths[0], widths[n_layers], 3 + 2 * n_layers - 1, 0};
	add(&builder, header, sizeof header);
	for (uint32_t kind = SCALE; kind <= SHIFT; kind++) {
		add_number(&builder, kind);
		add_number(&builder, widths[0]);
		add_values(&builder, widths[0]);
	}
	for (uint32_t l = 0; l < n_layers; l++) {
		add_number(&builder, AFFINE);
		add_number(&builder, widths[l + 1]);
		add_values(&builder, (size_t)widths[l] * widths[l + 1] + widths[l + 1]);
		if (l + 1 < n_layers) {
			add_number(&builder, LEAKY_RELU);
			add_number(&builder, widths[l + 1]);
			add(&builder, &slope, sizeof slope);
		}
	}
	uint8_t digest[SHA256_BYTES];
	sha256(builder.bytes, builder.size, digest);
	add(&builder, digest, sizeof digest);
	struct failure failure;
	struct network *network = model_file_read(builder.bytes, builder.size, &failure);
	if (!network) {
		printf("cannot build a network: %s\n", failure.text);
		exit(1);
	}
	return network;
}

static long double constant(const struct network *network, const struct op *op, size_t index) {
	return network->dtype == FLOAT32 ? (long double)((float *)op->constants)[index] : (long double)((double *)op->constants)[index];
}

static long double weight(const struct network *network, const struct op *op, size_t o, size_t k) {
	size_t first = o / PANEL * PANEL, outputs = op->n_out - first < PANEL ? op->n_out - first : PANEL;
	return constant(network, op, first * op->n_in + k * outputs + (o - first));
}

static void exact(const struct network *network, const double *const *columns, size_t row, long double *values) {
	long double next[512];
	for (size_t i = 0; i < network->n_inputs; i++) {
		values[i] = network->dtype == FLOAT32 ? (long double)(float)columns[i][row] : (long double)columns[i][row];
	}
	for (const struct op *op = network->ops; op < network->ops + network->n_ops; op++) {
		for (size_t o = 0; o < op->n_out; o++) {
			long double sum = op->kind == AFFINE ? constant(network, op, op->n_in * op->n_out + o) : values[o];
			for (size_t k = 0; op->kind == AFFINE && k < op->n_in; k++) {
				sum += weight(network, op, o, k) * values[k];
			}
			sum = op->kind == SCALE ? sum * constant(network, op, o) : sum;
			sum = op->kind == DIVIDE ? sum / constant(network, op, o) : sum;
			sum = op->kind == SHIFT ? sum + constant(network, op, o) : sum;
			next[o] = op->activation != NONE && sum < 0 ? sum * op->slope : sum;
		}
		memcpy(values, next, op->n_out * sizeof *values);
	}
}

static void expect(bool holds, const char *what, const struct kernel *kernel, size_t row) {
	if (!holds) {
		printf("%s: %s at row %zu\n", kernel->name, what, row);
		exit(1);
	}
}

static void check(const struct kernel *kernel, const struct network *network, const double *const *columns) {
	size_t row_bytes = network->n_outputs * dtype_size(network->dtype);
	size_t scratch_bytes = (kernel_scratch_bytes(kernel, network) + 63) / 64 * 64;
	void *scratch = aligned_alloc(64, scratch_bytes);
	uint8_t *all = malloc(ROWS * row_bytes), *one = malloc(ROWS * row_bytes);
	uint32_t some[ROWS];
	size_t n_some = 0;
	kernel_forward(kernel, network, columns, NULL, ROWS, all, scratch);
	for (uint32_t row = 0; row < ROWS; row++) {
		kernel_forward(kernel, network, columns, &row, 1, one, scratch);
		expect(memcmp(one, all + row * row_bytes, row_bytes) == 0, "another score alone", kernel, row);
		some[n_some] = row;
		n_some += uniform() > 0;
		long double values[512];
		exact(network, columns, row, values);
		for (size_t o = 0; o < network->n_outputs; o++) {
			long double score = network->dtype == FLOAT32 ? (long double)((float *)(all + row * row_bytes))[o]
			                                              : (long double)((double *)(all + row * row_bytes))[o];
			long double tolerance = network->dtype == FLOAT32 ? 1e-4L : 1e-12L;
			expect(isnan(values[o]) ? isnan(score) : fabsl(score - values[o]) <= tolerance * (1 + fabsl(values[o])),
			       "a wrong score", kernel, row);
		}
	}
	kernel_forward(kernel, network, columns, some, n_some, one, scratch);
	for (size_t i = 0; i < n_some; i++) {
		expect(memcmp(one + i * row_bytes, all + some[i] * row_bytes, row_bytes) == 0, "another score among others", kernel,
		       some[i]);
	}
	free(all);
	free(one);
	free(scratch);
}

int main(void) {
	static double inputs[MAX_INPUTS][ROWS];
	const double *columns[MAX_INPUTS];
	for (size_t i = 0; i < MAX_INPUTS; i++) {
		for (size_t row = 0; row < ROWS; row++) {
			inputs[i][row] = row % 50 == 49 && i == row % 3 ? NAN : uniform();
		}
		columns[i] = inputs[i];
	}
	static const uint32_t shapes[][4] = {{1, 1, 1, 1},   {4, 32, 32, 1}, {3, 5, 6, 7},   {64, 65, 3, 2},
	                                     {7, 257, 2, 3}, {2, 2, 4, 9},   {70, 128, 9, 4}};
	const struct kernel *usable[N_ISAS];
	size_t n = kernels_usable(usable);
	for (size_t i = 0; i < n; i++) {
		for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
			for (int variant = 0; variant < 4; variant++) {
				struct network *network = build(variant % 2 ? FLOAT64 : FLOAT32, shapes[s], 3, variant < 2 ? 0 : 0.1);
				check(usable[i], network, columns);
				network_free(network);
			}
		}
		printf("%s: ok\n", usable[i]->name);
	}
	return 0;
}
