#define REAL float

#include "nearest_kernel.h"
#include "vectors.h"

#include <math.h>
#include <string.h>

enum { DOUBLES = VECTOR_BYTES / sizeof(double), ACROSS = 4 };

// Rows lie where the file has them, at any address.
typedef float loose __attribute__((vector_size(VECTOR_BYTES), aligned(1), may_alias));
typedef float narrow_loose __attribute__((vector_size(VECTOR_BYTES / 2), aligned(1), may_alias));
typedef int8_t bytes_loose __attribute__((vector_size(DOUBLES), aligned(1), may_alias));
typedef double wide __attribute__((vector_size(VECTOR_BYTES)));

INLINE float sum_of(vec values) {
	float sum = 0;
	for (size_t i = 0; i < LANES; i++) {
		sum += values[i];
	}
	return sum;
}

INLINE double wide_sum_of(wide values) {
	double sum = 0;
	for (size_t i = 0; i < DOUBLES; i++) {
		sum += values[i];
	}
	return sum;
}

INLINE float row_sum(const float *row, const float *query, size_t width, bool squared) {
	vec sums[ACROSS] = {{0}};
	size_t i = 0;
	for (; i + ACROSS * LANES <= width; i += ACROSS * LANES) {
		for (size_t j = 0; j < ACROSS; j++) {
			vec x = *(const loose *)(row + i + j * LANES), q = *(const loose *)(query + i + j * LANES);
			vec off = x - q;
			sums[j] += squared ? off * off : x * q;
		}
	}
	float sum = sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
	for (; i < width; i++) {
		float off = row[i] - query[i];
		sum += squared ? off * off : row[i] * query[i];
	}
	return sum;
}

static void squared(const float *rows, size_t n, size_t width, const float *query, float *out) {
	for (size_t r = 0; r < n; r++) {
		out[r] = row_sum(rows + r * width, query, width, true);
	}
}

static void products(const float *rows, size_t n, size_t width, const float *query, float *out) {
	for (size_t r = 0; r < n; r++) {
		out[r] = row_sum(rows + r * width, query, width, false);
	}
}

static void extremes(const float *values, size_t width, float *least, float *most) {
	vec low = (vec){0} + values[0], high = low;
	size_t i = 0;
	for (; i + LANES <= width; i += LANES) {
		vec x = *(const loose *)(values + i);
		low = where(x < low, x, low);
		high = where(x > high, x, high);
	}
	for (size_t j = 0; j < LANES; j++) {
		low[0] = fminf(low[0], low[j]);
		high[0] = fmaxf(high[0], high[j]);
	}
	for (; i < width; i++) {
		low[0] = fminf(low[0], values[i]);
		high[0] = fmaxf(high[0], values[i]);
	}
	*least = low[0];
	*most = high[0];
}

// Bit `plane` of each of eight bytes as one byte.
INLINE uint64_t bit_of_each(uint64_t bytes, unsigned plane) {
	return ((bytes >> plane & 0x0101010101010101u) * 0x0102040810204080u) >> 56;
}

static void into_planes(const uint8_t *values, size_t width, struct turned_query *out) {
	for (size_t word = 0; word < out->n_words; word++) {
		uint64_t planes[PLANES] = {0};
		for (size_t part = 0; part < WORD_BITS / 8; part++) {
			uint64_t bytes;
			memcpy(&bytes, values + word * WORD_BITS + part * 8, sizeof bytes);
			for (unsigned plane = 0; plane < QUERY_BITS; plane++) {
				planes[plane] |= bit_of_each(bytes, plane) << (8 * part);
			}
		}
		size_t left = width - word * WORD_BITS;
		planes[QUERY_BITS] = left < WORD_BITS ? ((uint64_t)1 << left) - 1 : ~(uint64_t)0;
		for (size_t plane = 0; plane < PLANES; plane++) {
			out->planes[plane * out->n_words + word] = planes[plane];
		}
	}
}

static void turn(const float *query, const float *centroid, size_t width, float squared_distance, struct turned_query *out) {
	float least, most, top = (1 << QUERY_BITS) - 1;
	for (size_t i = 0; i < width; i++) {
		out->residual[i] = query[i] - centroid[i];
	}
	extremes(out->residual, width, &least, &most);
	float delta = (most - least) / top, inverse = delta > 0 ? 1 / delta : 0;
	int32_t sum = 0;
	memset(out->shifted, 0, out->n_words * WORD_BITS);
	for (size_t i = 0; i < width; i++) {
		float shifted = (out->residual[i] - least) * inverse + 0.5f;
		int32_t value = shifted < top ? (int32_t)shifted : (int32_t)top;
		out->shifted[i] = (uint8_t)value;
		sum += value;
	}
	into_planes(out->shifted, width, out);
	float root = 1 / sqrtf((float)width);
	out->c1 = 2 * delta * root;
	out->c2 = 2 * least * root;
	out->c34 = root * (delta * (float)sum + (float)width * least);
	out->squared_distance = squared_distance;
}

INLINE float estimate_one(const struct turned_query *query, const uint8_t *code, size_t sign_bytes) {
	size_t n_words = query->n_words;
	uint64_t bits = 0, ones = 0;
	for (size_t word = 0; word < n_words; word++) {
		uint64_t signs; // behind the signs are as many bytes as may be read too far
		memcpy(&signs, code + word * sizeof signs, sizeof signs);
		for (size_t plane = 0; plane < QUERY_BITS; plane++) {
			bits += (uint64_t)__builtin_popcountll(signs & query->planes[plane * n_words + word]) << plane;
		}
		ones += (uint64_t)__builtin_popcountll(signs & query->planes[QUERY_BITS * n_words + word]);
	}
	float squared_norm, multiplier;
	memcpy(&squared_norm, code + sign_bytes, sizeof squared_norm);
	memcpy(&multiplier, code + sign_bytes + sizeof squared_norm, sizeof multiplier);
	float product = query->c1 * (float)bits + query->c2 * (float)ones - query->c34;
	return squared_norm + query->squared_distance - 2 * multiplier * product;
}

static void estimate(const struct turned_query *query, const uint8_t *codes, size_t n, size_t code_bytes, float *out) {
	for (size_t i = 0; i < n; i++) {
		out[i] = estimate_one(query, codes + i * code_bytes, code_bytes - FACTOR_BYTES);
	}
}

INLINE wide load_float(const void *row, size_t i) {
	return __builtin_convertvector(*(const narrow_loose *)((const float *)row + i), wide);
}

INLINE wide load_int8(const void *row, size_t i) {
	return __builtin_convertvector(*(const bytes_loose *)((const int8_t *)row + i), wide);
}

// Row and query, or the row with itself; term(x, q) is what is summed. A value at an odd address is copied.
#define SUM(name, type, load, with_query, term)                                                                            \
	INLINE double name##_sum(const float *query, const void *row, size_t d) {                                              \
		wide sums[ACROSS] = {{0}};                                                                                         \
		size_t i = 0;                                                                                                      \
		for (; i + ACROSS * DOUBLES <= d; i += ACROSS * DOUBLES) {                                                         \
			for (size_t j = 0; j < ACROSS; j++) {                                                                          \
				wide x = load(row, i + j * DOUBLES), q = with_query ? load_float(query, i + j * DOUBLES) : x;              \
				sums[j] += term;                                                                                           \
			}                                                                                                              \
		}                                                                                                                  \
		double sum = wide_sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));                                               \
		for (; i < d; i++) {                                                                                               \
			type value;                                                                                                    \
			memcpy(&value, (const type *)row + i, sizeof value);                                                           \
			double x = (double)value, q = with_query ? (double)query[i] : x;                                               \
			sum += term;                                                                                                   \
		}                                                                                                                  \
		return sum;                                                                                                        \
	}
#define PAIR(name, type, load, term)                                                                                       \
	SUM(name, type, load, true, term)                                                                                      \
	static double name(const float *query, const void *row, size_t d) {                                                    \
		return name##_sum(query, row, d);                                                                                  \
	}
#define ALONE(name, type, load)                                                                                            \
	SUM(name, type, load, false, x *q)                                                                                     \
	static double name(const void *row, size_t d) {                                                                        \
		return name##_sum(NULL, row, d);                                                                                   \
	}
PAIR(squared_float, float, load_float, (x - q) * (x - q))
PAIR(product_float, float, load_float, x *q)
ALONE(square_float, float, load_float)
PAIR(squared_int8, int8_t, load_int8, (x - q) * (x - q))
PAIR(product_int8, int8_t, load_int8, x *q)
ALONE(square_int8, int8_t, load_int8)

const struct nearest_kernel GLUE(nearest_kernel, ISA) = {
    squared,       products,     turn,         estimate,     squared_float,
    product_float, square_float, squared_int8, product_int8, square_int8,
};
