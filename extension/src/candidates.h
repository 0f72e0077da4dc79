// The best rows of those whose codes were scanned, each once, by the least of its estimates.
#ifndef SKIPML_CANDIDATES_H
#define SKIPML_CANDIDATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct candidate {
	float estimate;
	bool is_looked_at;
};

// A heap whose first is the worst; of equal ones the one behind is the worse.
struct candidates {
	size_t n, most;
	int64_t *position;        // [most]
	struct candidate *entry; // [most]
};

// Estimates that are not below it are of no use; an estimate that is not finite never is.
float candidates_limit(const struct candidates *candidates);
void candidates_add(struct candidates *candidates, float estimate, int64_t position);

#endif
