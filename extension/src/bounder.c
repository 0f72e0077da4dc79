#include "isa.h"
#include "library.h"

#include <stdlib.h>
#include <string.h>

#define DECLARE(isa)                                                                                                       \
	void interval_##isa(const struct bounder *, const double *, const double *, size_t, double *, double *, double *);     \
	void crown_##isa(const struct bounder *, const double *, const double *, size_t, const struct linear_bounds *,         \
	                 double *);
EACH_ISA(DECLARE)

#define KERNEL(isa) [ISA_##isa] = {interval_##isa, crown_##isa},
static const struct bounds_kernel KERNELS[] = {EACH_ISA(KERNEL)};

static const struct bounds_kernel *fastest(void) {
	enum isa usable[N_ISAS];
	isas_usable(usable);
	return KERNELS + usable[0];
}

enum { ALIGNMENT = 64 };

static double *doubles(size_t n) {
	size_t bytes = (n * sizeof(double) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	double *memory = aligned_alloc(ALIGNMENT, bytes ? bytes : ALIGNMENT);
	if (memory) {
		memset(memory, 0, bytes);
	}
	return memory;
}

// What a bounder is made of, read from front to back; `failed` once memory is short.
struct reader {
	const int64_t *shape;
	const double *numbers;
	bool failed;
};

static double *read_rows(struct reader *from, size_t n_rows, size_t length) {
	size_t stride = padded(length);
	double *rows = doubles(n_rows * stride);
	from->failed |= !rows;
	for (size_t i = 0; rows && i < n_rows; i++) {
		memcpy(rows + i * stride, from->numbers + i * length, length * sizeof(double));
	}
	from->numbers += n_rows * length;
	return rows;
}

// Weights [n_rows][n_out], then the bias [n_bias].
static struct matrix read_matrix(struct reader *from, size_t n_rows, size_t n_in, size_t n_out, size_t n_bias) {
	struct matrix matrix = {.n_in = n_in, .n_out = n_out, .stride = padded(n_out)};
	matrix.weight = read_rows(from, n_rows, n_out);
	matrix.bias = read_rows(from, 1, n_bias);
	return matrix;
}

static size_t most(size_t a, size_t b) {
	return a > b ? a : b;
}

static void read_step(struct reader *from, struct step *step) {
	step->kind = (enum step_kind)*from->shape++;
	if (step->kind == ACTIVATION) {
		step->slope = *from->numbers++;
		step->rounding = *from->numbers++;
		step->underflow = *from->numbers++;
		return;
	}
	size_t n_in = (size_t)*from->shape++, n_out = (size_t)*from->shape++;
	step->linear = read_matrix(from, step->kind == MATRIX ? n_in : 1, n_in, n_out, n_out);
	step->constant = read_rows(from, 1, n_out);
	step->relative = *from->numbers++;
	step->rounding = *from->numbers++;
	step->growth = *from->numbers++;
	step->offset = *from->numbers++;
}

struct bounder *skipml_bounder_open(const int64_t *shape, const double *numbers) {
	struct bounder *b = calloc(1, sizeof *b);
	if (!b) {
		return NULL;
	}
	struct reader from = {shape, numbers, false};
	b->is_float32 = *from.shape++;
	b->n_inputs = (size_t)*from.shape++;
	b->n_functionals = (size_t)*from.shape++;
	b->n_steps = (size_t)*from.shape++;
	b->n_stages = (size_t)*from.shape++;
	b->limit = *from.numbers++;
	b->steps = calloc(b->n_steps, sizeof *b->steps);
	b->forward = calloc(b->n_stages, sizeof *b->forward);
	b->backward = calloc(b->n_stages, sizeof *b->backward);
	b->slopes = doubles(b->n_stages);
	if (!b->steps || !b->forward || !b->backward || !b->slopes) {
		skipml_bounder_close(b);
		return NULL;
	}
	b->widest = padded(b->n_inputs);
	for (size_t s = 0; s < b->n_steps; s++) {
		read_step(&from, b->steps + s);
		b->widest = most(b->widest, b->steps[s].linear.stride);
	}
	for (size_t s = 0; s < b->n_stages; s++) {
		size_t n_in = (size_t)*from.shape++, n_out = (size_t)*from.shape++;
		b->forward[s] = read_matrix(&from, n_in, n_in, n_out, n_out);
		b->backward[s] = read_matrix(&from, n_out, n_out, n_in, n_out);
		b->widest = most(b->widest, most(padded(n_in), padded(n_out)));
	}
	memcpy(b->slopes, from.numbers, (b->n_stages - 1) * sizeof(double));
	if (from.failed) {
		skipml_bounder_close(b);
		return NULL;
	}
	return b;
}

static void free_matrix(struct matrix *matrix) {
	free(matrix->weight);
	free(matrix->bias);
}

void skipml_bounder_close(struct bounder *b) {
	for (size_t s = 0; b->steps && s < b->n_steps; s++) {
		free_matrix(&b->steps[s].linear);
		free(b->steps[s].constant);
	}
	for (size_t s = 0; b->forward && b->backward && s < b->n_stages; s++) {
		free_matrix(b->forward + s);
		free_matrix(b->backward + s);
	}
	free(b->steps);
	free(b->forward);
	free(b->backward);
	free(b->slopes);
	free(b);
}

bool skipml_interval(const struct bounder *b, const double *lower, const double *upper, size_t n, double *low, double *high) {
	double *scratch = doubles(bounds_scratch_doubles(b));
	if (!scratch) {
		return false;
	}
	fastest()->interval(b, lower, upper, n, low, high, scratch);
	free(scratch);
	return true;
}

bool skipml_crown(const struct bounder *b, const double *lower, const double *upper, size_t n,
                  const struct linear_bounds *out) {
	double *scratch = doubles(bounds_scratch_doubles(b));
	if (!scratch) {
		return false;
	}
	fastest()->crown(b, lower, upper, n, out, scratch);
	free(scratch);
	return true;
}
