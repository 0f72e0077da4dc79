// Compiled with -DISA and -DVECTOR_BYTES for each instruction set.
//
// The same formulas as skipml/bounds/interval.py and skipml/bounds/crown.py, which say where they come from and why
// they are sound, for one box after the other. A number goes through no more roundings here than there: sums may come in
// another order, which the margin allows (skipml/bounds/rounding.py), and some products are fused into them.
#include "bounds.h"

#include <math.h>
#include <string.h>

typedef double vec __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t bits __attribute__((vector_size(VECTOR_BYTES)));

enum { LANES = VECTOR_BYTES / sizeof(double), VECTORS = PADDING / LANES, ROWS = 4 };

static const double SMALLEST = 0x1p-1022; // in place of 0 where a range has no width

#define GLUE(name, isa) name##_##isa
#define NAME(name, isa) GLUE(name, isa)
#define INLINE static inline __attribute__((always_inline))

// Lower lines (mid - dev) z, upper lines (mid + dev) z + intercept.
struct relaxation {
	double *mid, *dev, *intercept;
};

// What a box does to one layer: exact values lie within `radius` of `centre`, computed ones `error` further out.
struct span {
	double *centre, *radius, *error;
};

INLINE vec magnitude(vec x) {
	return (vec)((bits)x & INT64_MAX);
}

INLINE vec at(const double *place) {
	return *(const vec *)place;
}

INLINE void put(double *place, vec x) {
	*(vec *)place = x;
}

INLINE vec where(bits condition, vec yes, vec no) {
	return (vec)(((bits)yes & condition) | ((bits)no & ~condition));
}

// b where one is NaN: every use has what always holds there.
INLINE vec larger(vec a, vec b) {
	return where(a > b, a, b);
}

INLINE vec smaller(vec a, vec b) {
	return where(a < b, a, b);
}

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
	bits finite = {0};
	finite = ~finite;
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

static struct span take_span(double **scratch, size_t stride) {
	struct span span = {*scratch, *scratch + stride, *scratch + 2 * stride};
	*scratch += 3 * stride;
	return span;
}

// The spans before every activation into `before`, that of the functionals into `outputs`; false where nothing holds.
static bool trace(const struct bounder *b, const double *lower, const double *upper, struct span *before,
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

static void cast(const struct bounder *b, const double *from, double *to) {
	for (size_t i = 0; i < b->n_inputs; i++) {
		to[i] = b->is_float32 ? (double)(float)from[i] : from[i];
	}
}

void NAME(interval, ISA)(const struct bounder *b, const double *lower, const double *upper, size_t n, double *low,
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
		bool finite = trace(b, box_lower, box_upper, before, &outputs, scratch);
		for (size_t f = 0; f < m; f++) {
			low[f] = finite ? outputs.centre[f] - outputs.radius[f] - outputs.error[f] : -INFINITY;
			high[f] = finite ? outputs.centre[f] + outputs.radius[f] + outputs.error[f] : INFINITY;
		}
	}
}

void NAME(crown, ISA)(const struct bounder *b, const double *lower, const double *upper, size_t n,
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
		if (!trace(b, box_lower, box_upper, before, &outputs, scratch)) {
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
