// What branch and bound does to boxes beside bounding them.
#ifndef SKIPML_BOXES_H
#define SKIPML_BOXES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Half-planes around pairs of inputs, as skipml/bounds/polygons.py has them: `inputs` [P][2], `origin` and `width`
// [N][P][2], `planes` [5][N][P][K].
struct polygons {
	size_t n_blocks, n_pairs, n_planes;
	const int64_t *inputs;
	const double *origin, *width, *planes;
};

#endif
