// Compiled with -DISA and -DVECTOR_BYTES for each instruction set.
//
// The same formulas as skipml/bounds/interval.py, which says where they come from and why they are sound, for one box after
// the other. A number goes through no more roundings here than there: sums may come in another order, which the margin
// allows (skipml/bounds/rounding.py), and some products are fused into them.
#include "spans.h"

#include <math.h>
#include <string.h>

// The centre through the weights, radius and entering error through their magnitudes, in one pass over them.
static void through_matrix(const struct matrix *w, const struct span *in, const double *entering, const struct span *out) {
	for (size_t j = 0; j < w->stride; j += PADDING) {
		vec centre[VECTORS] = {0}, radius[VECTORS] = {0}, error[VECTORS] = {0};
		const double *weight = w->weight + j;
		for (size_t k = 0; k < w->n_in; k++, weight += w->stride) {
			for (int v = 0; v < VECTORS; v++) {
				vec here = ((const vec *)weight)[v], size = magnitude(here);
				centre[v] += in->centre[k] * here;
				radius[v] += in->radius[k] * size;
				error[v] += entering[k] * size;
			}
		}
		memcpy(out->centre + j, centre, sizeof centre);
		memcpy(out->radius + j, radius, sizeof radius);
		memcpy(out->error + j, error, sizeof error);
	}
}

// False where a magnitude might overflow. `entering` is scratch.
static bool through_linear(const struct bounder *b, const struct step *step, const struct span *in, const struct span *out,
                           double *entering) {
	const struct matrix *w = &step->linear;
	mask finite = (vec){0} == (vec){0};
	for (size_t i = 0; i < padded(w->n_in); i += LANES) {
		vec error = at(in->error + i), largest = magnitude(at(in->centre + i)) + at(in->radius + i) + error;
		finite &= largest * step->growth + step->offset <= b->limit; // false for NaN
		put(entering + i, largest * step->relative + error);
	}
	if (step->kind == MATRIX) {
		through_matrix(w, in, entering, out);
	} else {
		for (size_t i = 0; i < w->stride; i += LANES) {
			vec weight = at(w->weight + i), size = magnitude(weight);
			put(out->centre + i, at(in->centre + i) * weight);
			put(out->radius + i, at(in->radius + i) * size);
			put(out->error + i, at(entering + i) * size);
		}
	}
	for (size_t i = 0; i < w->stride; i += LANES) {
		vec centre = at(out->centre + i) + at(w->bias + i), error = at(out->error + i) + at(step->constant + i);
		put(out->centre + i, centre);
		put(out->error + i, error + step->rounding * (magnitude(centre) + at(out->radius + i) + error));
	}
	bool all = true;
	for (int i = 0; i < LANES; i++) {
		all &= finite[i] != 0;
	}
	return all;
}

static void through_activation(const struct step *step, size_t n, const struct span *in, const struct span *out) {
	double slope = step->slope;
	vec zero = {0};
	for (size_t i = 0; i < n; i += LANES) {
		vec centre = at(in->centre + i), radius = at(in->radius + i), error = at(in->error + i);
		vec lower = centre - radius, upper = centre + radius;
		if (slope == 0) {
			error = where(upper > -error, error, zero);
		} else {
			error = error + step->rounding * (larger(-lower, zero) + error) + step->underflow;
		}
		lower = larger(lower, slope * lower);
		upper = larger(upper, slope * upper);
		put(out->centre + i, (lower + upper) * 0.5);
		put(out->radius + i, (upper - lower) * 0.5);
		put(out->error + i, error);
	}
}

bool GLUE(trace, ISA)(const struct bounder *b, const double *lower, const double *upper, struct span *before,
                      struct span *outputs, double *scratch) {
	size_t n = b->n_inputs;
	double *entering = scratch;
	scratch += b->widest;
	struct span now = take_span(&scratch, b->widest), next = *outputs;
	for (size_t i = 0; i < n; i++) {
		if (!(-lower[i] <= b->limit && upper[i] <= b->limit)) {
			return false;
		}
		now.centre[i] = (lower[i] + upper[i]) * 0.5;
		now.radius[i] = (upper[i] - lower[i]) * 0.5;
		now.error[i] = 0;
	}
	for (size_t i = n; i < padded(n); i++) {
		now.centre[i] = now.radius[i] = now.error[i] = 0;
	}
	n = padded(n);
	for (const struct step *step = b->steps; step < b->steps + b->n_steps; step++) {
		if (step->kind == ACTIVATION) {
			memcpy(before->centre, now.centre, n * sizeof(double));
			memcpy(before->radius, now.radius, n * sizeof(double));
			memcpy(before->error, now.error, n * sizeof(double));
			through_activation(step, n, before++, &next);
		} else {
			if (!through_linear(b, step, &now, &next, entering)) {
				return false;
			}
			n = step->linear.stride;
		}
		struct span read = now;
		now = next;
		next = read;
	}
	*outputs = now;
	return true;
}

void GLUE(interval, ISA)(const struct bounder *b, const double *lower, const double *upper, size_t n, double *low,
                         double *high, double *scratch) {
	size_t m = b->n_functionals, d = padded(b->n_inputs);
	double *box_lower = scratch, *box_upper = scratch + d;
	scratch += 2 * d;
	struct span before[b->n_stages];
	for (size_t k = 0; k + 1 < b->n_stages; k++) {
		before[k] = take_span(&scratch, b->widest);
	}
	struct span first = take_span(&scratch, b->widest);
	for (size_t box = 0; box < n; box++, low += m, high += m, lower += b->n_inputs, upper += b->n_inputs) {
		cast(b, lower, box_lower);
		cast(b, upper, box_upper);
		struct span outputs = first;
		bool finite = GLUE(trace, ISA)(b, box_lower, box_upper, before, &outputs, scratch);
		for (size_t f = 0; f < m; f++) {
			low[f] = finite ? outputs.centre[f] - outputs.radius[f] - outputs.error[f] : -INFINITY;
			high[f] = finite ? outputs.centre[f] + outputs.radius[f] + outputs.error[f] : INFINITY;
		}
	}
}
