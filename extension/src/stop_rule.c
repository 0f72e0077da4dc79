#include "stop_rule.h"

#include <math.h>

static const float SMALLEST = 1e-12f, LARGEST = 1e30f, FURTHEST = 64;

static size_t rounded(const struct stop_rule *rule, double lists) {
	size_t low = 0, high = rule->n_looks - 1; // the first look at so many lists or more, or the last
	while (low < high) {
		size_t middle = (low + high) / 2;
		if ((double)rule->looks[middle] < lists) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return (size_t)rule->looks[low];
}

static float predict(const struct rule_trees *trees, const float *x) {
	float sum = 0;
	for (size_t tree = 0; tree < trees->n; tree++) {
		const int64_t *feature = trees->feature + tree * trees->depth;
		const float *threshold = trees->threshold + tree * trees->depth;
		size_t leaf = 0;
		for (size_t j = 0; j < trees->depth; j++) {
			leaf = 2 * leaf + (x[feature[j]] > threshold[j]);
		}
		sum += trees->leaf[(tree << trees->depth) + leaf];
	}
	return sum + (float)trees->mean;
}

static float log_of(float value) {
	return logf(value < SMALLEST ? SMALLEST : value > LARGEST ? LARGEST : value);
}

static size_t add_ranks(const struct stop_rule *rule, struct route *route, float *raw, size_t n) {
	for (size_t i = 0; i < rule->n_ranks; i++) {
		size_t rank = (size_t)rule->ranks[i];
		raw[n++] = log_of(route_distance(route, rank < route->n ? rank : route->n - 1));
	}
	return n;
}

static float asked(const struct stop_rule *rule, const float *raw) {
	float x[MOST_FEATURES];
	for (size_t i = 0; i < rule->n_pairs; i++) {
		int64_t minus = rule->pairs[2 * i + 1];
		x[i] = raw[rule->pairs[2 * i]] - (minus < 0 ? 0 : raw[minus]);
	}
	return predict(&rule->trees, x);
}

size_t rule_first(const struct stop_rule *rule, struct route *route) {
	if (rule->kind != RULE_LEVEL) {
		return rule->first;
	}
	float raw[MOST_RAW];
	route_sort(route, ROUTE_LISTS);
	add_ranks(rule, route, raw, 0);
	return rounded(rule, (double)(expf(asked(rule, raw)) * (float)rule->setting));
}

// Rows that each further list brings, or how near the last centroid is.
static float worth(const struct stop_rule *rule, struct route *route, size_t read, const float *best, size_t k) {
	size_t n = 1, last = (read < route->n ? read : route->n) - 1;
	if (rule->kind == RULE_NEARNESS) {
		float far = route_distance(route, last);
		return best[k - 1] / (far > SMALLEST ? far : SMALLEST);
	}
	float raw[MOST_RAW] = {logf((float)read)};
	for (size_t i = 0; i < rule->n_best; i++) {
		raw[n++] = log_of(best[rule->best[i]]);
	}
	for (size_t i = 0; i < rule->n_multiples; i++) {
		size_t rank = (size_t)rule->multiples[i] * read;
		raw[n++] = log_of(route_distance(route, (rank < route->n ? rank : route->n) - 1));
	}
	add_ranks(rule, route, raw, n);
	return (float)((double)asked(rule, raw) / (double)read);
}

size_t rule_more(const struct stop_rule *rule, struct route *route, size_t read, const float *best, size_t k) {
	if (rule->kind == RULE_NPROBE || rule->kind == RULE_LEVEL) {
		return read;
	}
	route_sort(route, AHEAD * read > ROUTE_LISTS ? AHEAD * read : ROUTE_LISTS);
	float times = worth(rule, route, read, best, k) / (float)rule->setting;
	if (!(times > 1)) {
		return read;
	}
	double further = (double)read * (double)sqrtf(sqrtf(times < FURTHEST ? times : FURTHEST)), next = (double)read + 1;
	return rounded(rule, further > next ? further : next);
}
