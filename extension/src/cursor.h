// What is left to read of a model file.
#ifndef SKIPML_CURSOR_H
#define SKIPML_CURSOR_H

#include "network.h"

#include <string.h>

struct cursor {
	const uint8_t *at;
	size_t left, op; // op: the number of the op that is read
};

static inline bool take(struct cursor *cursor, void *to, size_t size) {
	if (size > cursor->left) {
		return false;
	}
	memcpy(to, cursor->at, size);
	cursor->at += size;
	cursor->left -= size;
	return true;
}

static inline double value_at(const uint8_t *values, enum dtype dtype, size_t index) {
	if (dtype == FLOAT32) {
		float value;
		memcpy(&value, values + index * sizeof value, sizeof value);
		return (double)value;
	}
	double value;
	memcpy(&value, values + index * sizeof value, sizeof value);
	return value;
}

#endif
