// Runs the kernels of searches for nearest rows, those of every instruction set here, against plain loops in double.
#include "nearest_kernel.h"
#include "route.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 37, WIDEST = 400 };
static uint64_t state = 1;

static float uniform(void) {
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (float)((double)(state >> 11) / 9007199254740992.0 * 2 - 1);
}

static void expect(double found, double wanted, const char *what, size_t width) {
	if (!(fabs(found - wanted) <= 1e-4 * (1 + fabs(wanted)))) {
		printf("%s of %zu values: %.9g, not %.9g\n", what, width, found, wanted);
		exit(1);
	}
}

static void check_rows(const struct nearest_kernel *kernel, size_t width) {
	float *rows = malloc(ROWS * width * sizeof *rows), query[WIDEST], squared[ROWS], products[ROWS];
	int8_t bytes[WIDEST];
	for (size_t i = 0; i < ROWS * width; i++) {
		rows[i] = uniform();
	}
	for (size_t i = 0; i < width; i++) {
		query[i] = uniform();
		bytes[i] = (int8_t)(127 * uniform());
	}
	kernel->squared(rows, ROWS, width, query, squared);
	kernel->products(rows, ROWS, width, query, products);
	for (size_t r = 0; r < ROWS; r++) {
		double off = 0, product = 0, square = 0;
		for (size_t i = 0; i < width; i++) {
			double x = rows[r * width + i], q = query[i];
			off += (x - q) * (x - q);
			product += x * q;
			square += x * x;
		}
		expect(squared[r], off, "squared", width);
		expect(products[r], product, "products", width);
		expect(kernel->squared_float(query, rows + r * width, width), off, "squared_float", width);
		expect(kernel->product_float(query, rows + r * width, width), product, "product_float", width);
		expect(kernel->square_float(rows + r * width, width), square, "square_float", width);
	}
	double off = 0, product = 0, square = 0;
	for (size_t i = 0; i < width; i++) {
		double x = bytes[i], q = query[i];
		off += (x - q) * (x - q);
		product += x * q;
		square += x * x;
	}
	expect(kernel->squared_int8(query, bytes, width), off, "squared_int8", width);
	expect(kernel->product_int8(query, bytes, width), product, "product_int8", width);
	expect(kernel->square_int8(bytes, width), square, "square_int8", width);
	free(rows);
}

// The estimate of a code whose signs are those of random bits, by the definition.
static void check_codes(const struct nearest_kernel *kernel, size_t width) {
	size_t sign_bytes = (width + 7) / 8, code_bytes = sign_bytes + FACTOR_BYTES, n_words = (width + WORD_BITS - 1) / WORD_BITS;
	uint8_t *code = malloc(code_bytes);
	float query[WIDEST], centroid[WIDEST], factors[2] = {0.7f, 0.3f}, found;
	struct turned_query turned = {.n_words = n_words,
	                              .planes = malloc(PLANES * n_words * sizeof(uint64_t)),
	                              .shifted = malloc(n_words * WORD_BITS),
	                              .residual = malloc(width * sizeof(float))};
	for (size_t i = 0; i < width; i++) {
		query[i] = uniform();
		centroid[i] = uniform();
	}
	memset(code, 0, code_bytes);
	double product = 0, least = 1e9, most = -1e9;
	for (size_t i = 0; i < width; i++) {
		least = fmin(least, query[i] - centroid[i]);
		most = fmax(most, query[i] - centroid[i]);
	}
	for (size_t i = 0; i < width; i++) {
		bool sign = uniform() > 0;
		code[i / 8] |= (uint8_t)(sign << i % 8);
		double step = (most - least) / ((1 << QUERY_BITS) - 1);
		double value = least + step * floor((query[i] - centroid[i] - least) / step + 0.5);
		product += sign ? value : -value;
	}
	memcpy(code + sign_bytes, factors, sizeof factors);
	kernel->turn(query, centroid, width, 2.5f, &turned);
	kernel->estimate(&turned, code, 1, code_bytes, &found);
	expect(found, factors[0] + 2.5 - 2 * factors[1] * product / sqrt((double)width), "estimate", width);
	free(code);
	free(turned.planes);
	free(turned.shifted);
	free(turned.residual);
}

static void check_route(size_t n) {
	float *distances = malloc(n * sizeof *distances);
	struct route route = {malloc(n * sizeof(uint64_t)), n, 0};
	for (size_t i = 0; i < n; i++) {
		distances[i] = (float)(int)(20 * (uniform() + 1)); // many are equal
	}
	route_make(&route, distances);
	for (size_t count = 1; count <= 2 * n; count *= 2) {
		route_sort(&route, count);
		for (size_t i = 1; i < n; i++) {
			bool in_order = route.keys[i - 1] < route.keys[i];
			if (i < count ? !in_order : route.keys[(count < n ? count : n) - 1] > route.keys[i]) {
				printf("%zu of %zu lists are not in order\n", count, n);
				exit(1);
			}
		}
	}
	free(distances);
	free(route.keys);
}

int main(void) {
	const struct nearest_kernel *usable[N_ISAS];
	size_t n = nearest_kernels_usable(usable);
	for (size_t i = 0; i < n; i++) {
		for (size_t width = 2; width < WIDEST; width += width < 70 ? 1 : 33) {
			check_rows(usable[i], width);
			check_codes(usable[i], width);
		}
	}
	for (size_t lists = 1; lists < 700; lists += 13) {
		check_route(lists);
	}
	printf("nearest: %zu kernels agree with plain loops\n", n);
	return 0;
}
