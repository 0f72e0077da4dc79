#include "candidates.h"

#include <float.h>

float candidates_limit(const struct candidates *candidates) {
	return candidates->n < candidates->most ? FLT_MAX : candidates->entry[0].estimate;
}

static bool is_worse(float estimate, int64_t position, float than, int64_t than_position) {
	return estimate > than || (estimate == than && position > than_position);
}

static void put(struct candidates *c, size_t place, int64_t position, struct candidate entry) {
	c->position[place] = position;
	c->entry[place] = entry;
}

static void sink(struct candidates *c, size_t place, int64_t position, struct candidate entry) {
	for (size_t child; (child = 2 * place + 1) < c->n; place = child) {
		if (child + 1 < c->n && is_worse(c->entry[child + 1].estimate, c->position[child + 1], c->entry[child].estimate,
		                                 c->position[child])) {
			child++;
		}
		if (!is_worse(c->entry[child].estimate, c->position[child], entry.estimate, position)) {
			break;
		}
		put(c, place, c->position[child], c->entry[child]);
	}
	put(c, place, position, entry);
}

static void rise(struct candidates *c, size_t place, int64_t position, struct candidate entry) {
	while (place) {
		size_t parent = (place - 1) / 2;
		if (!is_worse(entry.estimate, position, c->entry[parent].estimate, c->position[parent])) {
			break;
		}
		put(c, place, c->position[parent], c->entry[parent]);
		place = parent;
	}
	put(c, place, position, entry);
}

void candidates_add(struct candidates *c, float estimate, int64_t position) {
	for (size_t i = 0; i < c->n; i++) {
		if (c->position[i] == position) {
			if (estimate < c->entry[i].estimate) {
				sink(c, i, position, (struct candidate){estimate, c->entry[i].is_looked_at});
			}
			return;
		}
	}
	struct candidate entry = {estimate, false};
	if (c->n < c->most) {
		c->n++;
		rise(c, c->n - 1, position, entry);
	} else if (is_worse(c->entry[0].estimate, c->position[0], estimate, position)) {
		sink(c, 0, position, entry);
	}
}
