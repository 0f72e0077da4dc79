// The same formulas as skipml/bounds/polygons.py and skipml/bounds/leaves.py, which say why they are sound, for one box
// after the other.
#include "library.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double SLACK = 0x1p-36, NEAR = -1, FAR = 2;

enum { FIRST, SECOND, OFFSET, FIRST_INVERSE, SECOND_INVERSE };

// A box in the unit square of a pair: [side].
struct square {
	double low[2], high[2];
};

static double place(double x, double origin, double width) {
	double where = (x * 0.5 - origin) / width;
	return where != where ? 0 : where < NEAR ? NEAR : where > FAR ? FAR : where;
}

static double rounded(double x, bool is_float32) {
	return is_float32 ? (double)(float)x : x;
}

// The five numbers of the half-planes of one pair of one block: [K] each.
struct planes {
	size_t n;
	const double *of[5];
};

static struct planes planes_of(const struct polygons *p, size_t block, size_t pair) {
	struct planes planes = {.n = p->n_planes};
	for (size_t i = 0; i < 5; i++) {
		planes.of[i] = p->planes + ((i * p->n_blocks + block) * p->n_pairs + pair) * p->n_planes;
	}
	return planes;
}

static bool cuts(const struct planes *planes, const struct square *in) {
	bool any = false;
	for (size_t k = 0; k < planes->n; k++) {
		double first = planes->of[FIRST][k], second = planes->of[SECOND][k];
		double most = fmax(first * in->low[0], first * in->high[0]) + fmax(second * in->low[1], second * in->high[1]);
		any |= most > planes->of[OFFSET][k];
	}
	return any;
}

// Narrow a square by half-planes -> whether it is empty.
static bool sweep(const struct planes *planes, struct square *in) {
	static const int SIDES[3] = {0, 1, 0};
	bool empty = false;
	for (size_t k = 0; k < planes->n; k++) {
		double first = planes->of[FIRST][k], second = planes->of[SECOND][k];
		double least = fmin(first * in->low[0], first * in->high[0]) + fmin(second * in->low[1], second * in->high[1]);
		empty |= least > planes->of[OFFSET][k];
	}
	for (int i = 0; i < 3; i++) {
		int side = SIDES[i], other = 1 - side;
		double low = in->low[side], high = in->high[side];
		for (size_t k = 0; k < planes->n; k++) {
			double normal = planes->of[other][k], inverse = planes->of[FIRST_INVERSE + side][k];
			double least = fmin(normal * in->low[other], normal * in->high[other]);
			double reach = (planes->of[OFFSET][k] - least + SLACK) * inverse;
			if (inverse > 0 && reach < high) {
				high = reach;
			}
			if (inverse < 0 && reach > low) {
				low = reach;
			}
		}
		in->low[side] = low;
		in->high[side] = high;
	}
	return empty || in->low[0] > in->high[0] || in->low[1] > in->high[1];
}

// Bring a side of a square back into a box, outward; a clipped place says nothing of what lies beyond.
static void narrow(double origin, double width, double low, double high, double *lower, double *upper) {
	if (!(isfinite(width) && width > 0)) {
		return;
	}
	double slack = 0x1p-48 * (fabs(origin) + fabs(width));
	double least = 2.0 * (origin + low * width) - slack, most = 2.0 * (origin + high * width) + slack;
	if (low > NEAR && least > *lower) {
		*lower = least;
	}
	if (high < FAR && most < *upper) {
		*upper = most;
	}
}

static bool shrink(const struct polygons *p, size_t block, double *lower, double *upper, struct square *squares) {
	bool any = false, empty = false;
	for (size_t pair = 0; pair < p->n_pairs; pair++) {
		const double *origin = p->origin + (block * p->n_pairs + pair) * 2, *width = p->width + (block * p->n_pairs + pair) * 2;
		for (int side = 0; side < 2; side++) {
			size_t i = (size_t)p->inputs[2 * pair + side];
			squares[pair].low[side] = place(lower[i], origin[side], width[side]) - SLACK;
			squares[pair].high[side] = place(upper[i], origin[side], width[side]) + SLACK;
		}
		struct planes planes = planes_of(p, block, pair);
		any |= cuts(&planes, squares + pair);
	}
	for (size_t pair = 0; any && pair < p->n_pairs; pair++) {
		const double *origin = p->origin + (block * p->n_pairs + pair) * 2, *width = p->width + (block * p->n_pairs + pair) * 2;
		struct planes planes = planes_of(p, block, pair);
		empty |= sweep(&planes, squares + pair);
		for (int side = 0; side < 2; side++) {
			size_t i = (size_t)p->inputs[2 * pair + side];
			narrow(origin[side], width[side], squares[pair].low[side], squares[pair].high[side], lower + i, upper + i);
		}
	}
	return empty;
}

bool skipml_shrink(const struct polygons *p, bool is_float32, size_t d, const int64_t *block, size_t n, double *lower,
                  double *upper, bool *empty) {
	struct square *squares = malloc((p->n_pairs + 1) * sizeof *squares);
	if (!squares) {
		return false;
	}
	for (size_t box = 0; box < n; box++, lower += d, upper += d) {
		empty[box] = shrink(p, (size_t)block[box], lower, upper, squares);
		for (size_t i = 0; i < d; i++) {
			empty[box] |= lower[i] > upper[i];
			lower[i] = rounded(lower[i], is_float32);
			upper[i] = rounded(upper[i], is_float32);
		}
	}
	free(squares);
	return true;
}

static double next(double x, double towards, bool is_float32) {
	return is_float32 ? (double)nextafterf((float)x, (float)towards) : nextafter(x, towards);
}

// The side that moves the linear bound most, d for a point; a side that moves nothing counts a little, so that sides get
// split in turn.
static size_t widest(size_t d, const double *slope, const double *lower, const double *upper) {
	double steepest = 0, most = -1;
	size_t found = d;
	for (size_t i = 0; i < d; i++) {
		steepest = fmax(steepest, fabs(slope[i]));
	}
	for (size_t i = 0; i < d; i++) {
		double width = upper[i] - lower[i], weight = steepest > 0 ? fabs(slope[i]) + 1e-3 * steepest : 1;
		if (width > 0 && (found == d || weight * width > most)) {
			most = weight * width;
			found = i;
		}
	}
	return found;
}

size_t skipml_halve(bool is_float32, size_t d, int times, const double *slope, size_t n, const double *lower,
                   const double *upper, double *part_lower, double *part_upper, int64_t *parent) {
	size_t total = 0, bytes = d * sizeof(double);
	for (size_t box = 0; box < n; box++) {
		size_t first = total, end = total + 1;
		memcpy(part_lower + first * d, lower + box * d, bytes);
		memcpy(part_upper + first * d, upper + box * d, bytes);
		for (int t = 0; t < times; t++) {
			size_t parts = end;
			for (size_t part = first; part < parts; part++) {
				double *low = part_lower + part * d, *high = part_upper + part * d;
				size_t side = widest(d, slope + box * d, low, high);
				if (side == d) {
					continue;
				}
				double middle = rounded((low[side] + high[side]) * 0.5, is_float32);
				middle = middle < high[side] ? middle : next(high[side], -INFINITY, is_float32);
				memcpy(part_lower + end * d, low, bytes);
				memcpy(part_upper + end * d, high, bytes);
				part_lower[end * d + side] = next(middle, INFINITY, is_float32);
				high[side] = middle;
				end++;
			}
		}
		for (size_t part = first; part < end; part++) {
			parent[part] = (int64_t)box;
		}
		total = end;
	}
	return total;
}
