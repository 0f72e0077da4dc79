#include "route.h"

enum { FEW = 16 };

void route_make(struct route *route, const float *distances) {
	for (size_t i = 0; i < route->n; i++) {
		float distance = distances[i] > 0 ? distances[i] : 0; // no sign, no NaN
		uint32_t bits;
		memcpy(&bits, &distance, sizeof bits);
		route->keys[i] = (uint64_t)bits << 32 | (uint64_t)i;
	}
	route->n_sorted = 0;
}

static void insertion_sort(uint64_t *keys, size_t n) {
	for (size_t i = 1; i < n; i++) {
		uint64_t key = keys[i];
		size_t j = i;
		for (; j && keys[j - 1] > key; j--) {
			keys[j] = keys[j - 1];
		}
		keys[j] = key;
	}
}

static uint64_t middle_of(uint64_t a, uint64_t b, uint64_t c) {
	return a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
}

// Divide n > 2 keys, all of them different -> how many come first; neither part is empty.
static size_t divide(uint64_t *keys, size_t n) {
	uint64_t pivot = middle_of(keys[0], keys[n / 2], keys[n - 1]);
	size_t i = 0, j = n - 1;
	for (;; i++, j--) {
		while (keys[i] < pivot) {
			i++;
		}
		while (keys[j] > pivot) {
			j--;
		}
		if (i >= j) {
			return j + 1;
		}
		uint64_t key = keys[i];
		keys[i] = keys[j];
		keys[j] = key;
	}
}

// Put the first `count` of n keys in front, in order.
static void sort_first(uint64_t *keys, size_t n, size_t count) {
	while (n > FEW && count) {
		size_t first = divide(keys, n);
		if (first < count) {
			sort_first(keys + first, n - first, count - first);
			n = count = first;
		} else {
			n = first;
		}
	}
	if (count) {
		insertion_sort(keys, n);
	}
}

void route_sort(struct route *route, size_t count) {
	count = count < route->n ? count : route->n;
	if (count > route->n_sorted) {
		sort_first(route->keys + route->n_sorted, route->n - route->n_sorted, count - route->n_sorted);
		route->n_sorted = count;
	}
}
