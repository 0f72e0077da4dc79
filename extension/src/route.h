// The order in which a query reads its lists, sorted as far as it is looked at.
#ifndef SKIPML_ROUTE_H
#define SKIPML_ROUTE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

// A key holds the bits of a squared distance, which order as the distance does, above the number of its list.
struct route {
	uint64_t *keys;
	size_t n, n_sorted;
};

void route_make(struct route *route, const float *distances);

// The `count` nearest lists in order; as many as there are where that is fewer.
void route_sort(struct route *route, size_t count);

static inline size_t route_list(const struct route *route, size_t rank) {
	return (size_t)(uint32_t)route->keys[rank];
}

static inline float route_distance(const struct route *route, size_t rank) {
	uint32_t bits = (uint32_t)(route->keys[rank] >> 32);
	float distance;
	memcpy(&distance, &bits, sizeof distance);
	return distance;
}

#endif
