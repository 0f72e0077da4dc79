// Compiled with -DISA and -DVECTOR_BYTES for each instruction set.
//
// The same formulas as skipml/bounds/crown.py, which says where they come from and why they are sound, for one box after
// the other. A number goes through no more roundings here than there: sums may come in another order, which the margin
// allows (skipml/bounds/rounding.py), and some products are fused into them.
#include "spans.h"

#include <math.h>
#include <string.h>

enum { ROWS = 4 };

static const double SMALLEST = 0x1p-1022; // in place of 0 where a range has no width

// Lower lines (mid - dev) z, upper lines (mid + dev) z + intercept.
struct relaxation {
	double *mid, *dev, *intercept;
};

// out [rows][stride] = x [rows][x_stride] @ weight, or its magnitudes.
INLINE void few_rows(int rows, bool absolute, const double *x, size_t x_stride, const struct matrix *w, double *out) {
	for (size_t j = 0; j < w->stride; j += PADDING) {
		vec sums[ROWS][VECTORS] = {0};
		const double *weight = w->weight + j;
		for (size_t k = 0; k < w->n_in; k++, weight += w->stride) {
			for (int v = 0; v < VECTORS; v++) {
				vec here = ((const vec *)weight)[v];
				here = absolute ? magnitude(here) : here;
				for (int r = 0; r < rows; r++) {
					sums[r][v] += x[r * x_stride + k] * here;
				}
			}
		}
		for (int r = 0; r < rows; r++) {
			memcpy(out + r * w->stride + j, sums[r], sizeof sums[r]);
		}
	}
}

INLINE void product(bool absolute, const double *x, size_t rows, size_t x_stride, const struct matrix *w, double *out) {
	for (; rows >= ROWS; rows -= ROWS, x += ROWS * x_stride, out += ROWS * w->stride) {
		few_rows(ROWS, absolute, x, x_stride, w, out);
	}
	switch (rows) {
	case 1:
		few_rows(1, absolute, x, x_stride, w, out);
		break;
	case 2:
		few_rows(2, absolute, x, x_stride, w, out);
		break;
	case 3:
		few_rows(3, absolute, x, x_stride, w, out);
		break;
	}
	_Static_assert(ROWS == 4, "the cases above");
}

static void relax(double slope, size_t n, const double *lower, const double *upper, const struct span *span,
                  const struct relaxation *out) {
	vec zero = {0}, tiny = SMALLEST - zero, steepest = 1 - zero, flattest = slope - zero;
	for (size_t i = 0; i < n; i += LANES) {
		vec centre = at(span->centre + i), radius = at(span->radius + i), error = at(span->error + i);
		vec l = larger(at(lower + i) - error, centre - radius - error);
		vec u = smaller(at(upper + i) + error, centre + radius + error);
		vec low = smaller(l, zero), high = larger(u, zero);
		vec chord = (high - slope * low) / larger(high - low, tiny);
		vec steep = where(l + u > 0, steepest, flattest);
		put(out->intercept + i, low * (slope - chord));
		put(out->mid + i, 0.5 * chord + 0.5 * steep);
		put(out->dev + i, 0.5 * chord - 0.5 * steep);
	}
}

// The relaxation of every activation, first to last. `p`, `q`, `mid`, `dev` are scratch of [d + 1][widest].
static void relaxations(const struct bounder *b, const double *centre, const double *radius, const struct span *before,
                        const struct relaxation *out, double *p, double *q, double *mid, double *dev) {
	size_t d = b->n_inputs, n = b->forward->stride;
	double *lower = mid, *upper = dev;
	const double *weight = b->forward->weight;
	for (size_t j = 0; j < n; j += LANES) {
		vec at_centre = at(b->forward->bias + j), spread = {0};
		for (size_t i = 0; i < d; i++) {
			vec here = radius[i] * at(weight + i * n + j);
			put(p + i * n + j, here);
			at_centre += centre[i] * at(weight + i * n + j);
			spread += magnitude(here);
		}
		put(p + d * n + j, at_centre);
		put(lower + j, at_centre - spread);
		put(upper + j, at_centre + spread);
	}
	relax(b->slopes[0], n, lower, upper, before, out);
	memset(q, 0, (d + 1) * n * sizeof(double));
	for (size_t s = 1; s + 1 < b->n_stages; s++) {
		const struct relaxation *last = out + s - 1;
		const struct matrix *w = b->forward + s;
		for (size_t j = 0; j < n; j += LANES) {
			vec same = at(last->mid + j), other = at(last->dev + j), half = 0.5 * at(last->intercept + j);
			for (size_t i = 0; i <= d; i++) {
				vec x = at(p + i * n + j), y = at(q + i * n + j), constant = i == d ? half : (vec){0};
				put(mid + i * n + j, same * x + other * y + constant);
				put(dev + i * n + j, other * x + same * y + constant);
			}
		}
		product(false, mid, d + 1, n, w, p);
		product(true, dev, d + 1, n, w, q);
		n = w->stride;
		for (size_t j = 0; j < n; j += LANES) {
			vec x = at(p + d * n + j) + at(w->bias + j), y = at(q + d * n + j), low = x - y, high = x + y;
			put(p + d * n + j, x);
			for (size_t i = 0; i < d; i++) {
				x = at(p + i * n + j), y = at(q + i * n + j);
				low -= magnitude(x - y);
				high += magnitude(x + y);
			}
			put(lower + j, low);
			put(upper + j, high);
		}
		relax(b->slopes[s], n, lower, upper, before + s, out + s);
	}
}

// Upper bounds [2m] of the functionals and of their negatives -> their slopes [2m][stride]. `a`, `next` are scratch.
static const double *backward(const struct bounder *b, const struct relaxation *relaxation, const double *centre,
                              const double *radius, double *bound, double *a, double *next) {
	const struct matrix *w = b->backward + b->n_stages - 1;
	size_t m = b->n_functionals, n = w->stride;
	for (size_t f = 0; f < m; f++) {
		for (size_t j = 0; j < n; j++) {
			a[f * n + j] = w->weight[f * n + j];
			a[(m + f) * n + j] = -w->weight[f * n + j];
		}
		bound[f] = w->bias[f];
		bound[m + f] = -w->bias[f];
	}
	for (size_t s = b->n_stages - 1; s--;) {
		const struct relaxation *line = relaxation + s;
		w = b->backward + s;
		for (size_t f = 0; f < 2 * m; f++) {
			vec sum = {0};
			for (size_t j = 0; j < n; j += LANES) {
				vec x = at(a + f * n + j), size = magnitude(x);
				sum += 0.5 * (x + size) * at(line->intercept + j);
				x = x * at(line->mid + j) + size * at(line->dev + j);
				sum += x * at(w->bias + j);
				put(a + f * n + j, x);
			}
			for (int i = 0; i < LANES; i++) {
				bound[f] += sum[i];
			}
		}
		product(false, a, 2 * m, n, w, next);
		n = w->stride;
		double *read = a;
		a = next;
		next = read;
	}
	for (size_t f = 0; f < 2 * m; f++) {
		for (size_t i = 0; i < b->n_inputs; i++) {
			bound[f] += a[f * n + i] * centre[i] + fabs(a[f * n + i]) * radius[i];
		}
	}
	return a;
}

void GLUE(crown, ISA)(const struct bounder *b, const double *lower, const double *upper, size_t n,
                      const struct linear_bounds *out, double *scratch) {
	size_t m = b->n_functionals, d = padded(b->n_inputs), rows = (b->n_inputs + 1) * b->widest;
	double *box_lower = scratch, *box_upper = scratch + d, *centre = scratch + 2 * d, *radius = scratch + 3 * d;
	scratch += 4 * d;
	struct span before[b->n_stages];
	struct relaxation lines[b->n_stages];
	for (size_t k = 0; k + 1 < b->n_stages; k++) {
		before[k] = take_span(&scratch, b->widest);
		lines[k] = (struct relaxation){scratch, scratch + b->widest, scratch + 2 * b->widest};
		scratch += 3 * b->widest;
	}
	struct span first = take_span(&scratch, b->widest);
	double *relations = scratch + 4 * b->widest; // behind what the interval pass needs
	double *a = relations + 4 * rows, *bound = a + 4 * m * b->widest;
	for (size_t box = 0; box < n; box++, lower += b->n_inputs, upper += b->n_inputs) {
		double *low = out->low + box * m, *high = out->high + box * m;
		double *slope_low = out->slope_low + box * m * b->n_inputs, *slope_high = out->slope_high + box * m * b->n_inputs;
		cast(b, lower, box_lower);
		cast(b, upper, box_upper);
		struct span outputs = first;
		if (!GLUE(trace, ISA)(b, box_lower, box_upper, before, &outputs, scratch)) {
			for (size_t f = 0; f < m; f++) {
				low[f] = out->linear_low[box * m + f] = -INFINITY;
				high[f] = out->linear_high[box * m + f] = INFINITY;
			}
			memset(slope_low, 0, m * b->n_inputs * sizeof(double));
			memset(slope_high, 0, m * b->n_inputs * sizeof(double));
			continue;
		}
		for (size_t i = 0; i < b->n_inputs; i++) {
			centre[i] = (box_lower[i] + box_upper[i]) * 0.5;
			radius[i] = (box_upper[i] - box_lower[i]) * 0.5;
		}
		if (b->n_stages > 1) {
			relaxations(b, centre, radius, before, lines, relations, relations + rows, relations + 2 * rows,
			            relations + 3 * rows);
		}
		const double *slope = backward(b, lines, centre, radius, bound, a, a + 2 * m * b->widest);
		size_t stride = b->n_stages > 1 ? b->backward[0].stride : b->backward[b->n_stages - 1].stride;
		for (size_t f = 0; f < m; f++) {
			double error = outputs.error[f], l = -bound[m + f] - error, h = bound[f] + error;
			out->linear_low[box * m + f] = l;
			out->linear_high[box * m + f] = h;
			double lowest = outputs.centre[f] - outputs.radius[f] - error;
			double highest = outputs.centre[f] + outputs.radius[f] + error;
			low[f] = l > lowest ? l : lowest;
			high[f] = h < highest ? h : highest;
			for (size_t i = 0; i < b->n_inputs; i++) {
				slope_low[f * b->n_inputs + i] = -slope[(m + f) * stride + i];
				slope_high[f * b->n_inputs + i] = slope[f * stride + i];
			}
		}
	}
}
