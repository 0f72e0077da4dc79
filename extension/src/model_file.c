#include "model_file.h"

#include "cursor.h"
#include "forest.h"
#include "sha256.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file is little-endian and read as it lies");

static const uint8_t MAGIC[8] = {'S', 'K', 'I', 'P', 'M', 'L', 'N', 'N'};

enum { VERSION = 2, HEADER_BYTES = 32, OP_HEADER_BYTES = 8 };

// `n` finite values that the cursor stands on; NULL where there are fewer or one is not finite (or zero in a divisor).
static const uint8_t *take_values(struct cursor *cursor, const struct network *network, size_t n, bool may_be_zero,
                                  struct failure *failure) {
	if (n > cursor->left / dtype_size(network->dtype)) {
		fail(failure, "op %zu needs %zu values, more than the file has; it is cut off", cursor->op, n);
		return NULL;
	}
	const uint8_t *values = cursor->at;
	for (size_t i = 0; i < n; i++) {
		double value = value_at(values, network->dtype, i);
		if (!isfinite(value)) {
			fail(failure, "op %zu has a weight that is NaN or infinite; train or export the model again", cursor->op);
			return NULL;
		}
		if (value == 0 && !may_be_zero) {
			fail(failure, "op %zu divides by zero", cursor->op);
			return NULL;
		}
	}
	cursor->at += n * dtype_size(network->dtype);
	cursor->left -= n * dtype_size(network->dtype);
	return values;
}

static void *allocate_values(size_t n, enum dtype dtype, struct failure *failure) {
	void *values = malloc(n * dtype_size(dtype)); // n values were found in the file, so that this cannot overflow
	if (!values) {
		fail(failure, "out of memory for %zu weights", n);
	}
	return values;
}

// [n_out][n_in] as the file has it -> panels, then the biases.
static void pack(uint8_t *packed, const uint8_t *weights, const uint8_t *biases, const struct op *op, size_t size) {
	for (size_t first = 0; first < op->n_out; first += PANEL) {
		size_t outputs = op->n_out - first < PANEL ? op->n_out - first : PANEL;
		for (size_t k = 0; k < op->n_in; k++) {
			for (size_t o = 0; o < outputs; o++) {
				memcpy(packed, weights + ((first + o) * op->n_in + k) * size, size);
				packed += size;
			}
		}
	}
	memcpy(packed, biases, op->n_out * size);
}

static bool read_affine(struct cursor *cursor, struct network *network, struct op *op, struct failure *failure) {
	size_t n_weights = op->n_in * op->n_out; // both at most MAX_WIDTH
	const uint8_t *weights = take_values(cursor, network, n_weights, true, failure);
	const uint8_t *biases = weights ? take_values(cursor, network, op->n_out, true, failure) : NULL;
	op->constants = biases ? allocate_values(n_weights + op->n_out, network->dtype, failure) : NULL;
	if (!op->constants) {
		return false;
	}
	pack(op->constants, weights, biases, op, dtype_size(network->dtype));
	network->n_layers++;
	network->macs += n_weights;
	return true;
}

static bool read_vector(struct cursor *cursor, struct network *network, struct op *op, struct failure *failure) {
	const uint8_t *values = take_values(cursor, network, op->n_out, op->kind != DIVIDE, failure);
	op->constants = values ? allocate_values(op->n_out, network->dtype, failure) : NULL;
	if (!op->constants) {
		return false;
	}
	memcpy(op->constants, values, op->n_out * dtype_size(network->dtype));
	return true;
}

static bool read_activation(struct cursor *cursor, struct op *op, struct failure *failure) {
	if (!take(cursor, &op->slope, sizeof op->slope)) {
		fail(failure, "op %zu is cut off", cursor->op);
		return false;
	}
	if (!(op->slope >= 0 && op->slope <= 1)) {
		fail(failure, "op %zu: the slope must be between 0 and 1, not %g", cursor->op, op->slope);
		return false;
	}
	op->activation = op->slope == 0 ? RELU : LEAKY;
	return true;
}

// Trees are a model of their own, without other ops.
static bool read_trees(struct cursor *cursor, struct network *network, const struct op *op, struct failure *failure) {
	if (cursor->op > 0 || op->n_out != network->n_outputs) {
		fail(failure, "op %zu: trees are a model of their own, and have all its outputs", cursor->op);
		return false;
	}
	return forest_read(cursor, network, failure);
}

// Adds the next op to the network, `width` values wide before it.
static bool read_op(struct cursor *cursor, struct network *network, size_t width, struct failure *failure) {
	struct op *op = &network->ops[network->n_ops];
	uint32_t head[2];
	if (!take(cursor, head, sizeof head)) {
		fail(failure, "op %zu is cut off", cursor->op);
		return false;
	}
	if (head[1] < 1 || head[1] > MAX_WIDTH || (head[0] != AFFINE && head[0] != TREES && head[1] != width)) {
		fail(failure, "op %zu: %u values do not fit behind %zu (at most %d)", cursor->op, head[1], width, MAX_WIDTH);
		return false;
	}
	*op = (struct op){.kind = head[0], .n_in = width, .n_out = head[1]};
	switch (head[0]) {
	case AFFINE:
		return read_affine(cursor, network, op, failure);
	case SCALE:
	case DIVIDE:
	case SHIFT:
		return read_vector(cursor, network, op, failure);
	case LEAKY_RELU:
		return read_activation(cursor, op, failure);
	case TREES:
		return read_trees(cursor, network, op, failure);
	default:
		fail(failure, "op %zu is of kind %u, which this version does not know", cursor->op, head[0]);
		return false;
	}
}

static bool read_ops(struct cursor *cursor, struct network *network, size_t n_ops, struct failure *failure) {
	size_t width = network->n_inputs;
	network->widest = width;
	for (cursor->op = 0; cursor->op < n_ops; cursor->op++) {
		if (network->forest) {
			fail(failure, "op %zu follows trees, which are a model of their own", cursor->op);
			return false;
		}
		if (!read_op(cursor, network, width, failure)) {
			return false;
		}
		struct op *op = &network->ops[network->n_ops];
		struct op *before = network->n_ops ? op - 1 : NULL;
		if (op->kind == LEAKY_RELU && before && before->kind == AFFINE && before->activation == NONE) {
			before->activation = op->activation;
			before->slope = op->slope;
			continue; // done with the sums still in registers
		}
		network->n_ops++;
		width = op->n_out;
		network->widest = width > network->widest ? width : network->widest;
	}
	if (width != network->n_outputs) {
		fail(failure, "the last op gives %zu outputs, but the header declares %zu", width, network->n_outputs);
		return false;
	}
	if (cursor->left) {
		fail(failure, "%zu bytes follow the last op", cursor->left);
		return false;
	}
	return true;
}

static bool check_envelope(const uint8_t *content, size_t size, struct failure *failure) {
	if (size < HEADER_BYTES + SHA256_BYTES || memcmp(content, MAGIC, sizeof MAGIC) != 0) {
		fail(failure, "this is not a skipml model file; Model.save() writes one");
		return false;
	}
	uint32_t version;
	memcpy(&version, content + sizeof MAGIC, sizeof version);
	if (version < 1 || version > VERSION) {
		fail(failure, "the file has version %u of the format, this extension reads versions up to %d; save the model again", version,
		     VERSION);
		return false;
	}
	if (size > MAX_FILE_BYTES) {
		fail(failure, "the file has %zu bytes, at most %d are read", size, MAX_FILE_BYTES);
		return false;
	}
	uint8_t digest[SHA256_BYTES];
	sha256(content, size - SHA256_BYTES, digest);
	if (memcmp(digest, content + size - SHA256_BYTES, SHA256_BYTES) != 0) {
		fail(failure, "the checksum does not fit the content; the file is damaged or cut off");
		return false;
	}
	return true;
}

struct network *model_file_read(const uint8_t *content, size_t size, struct failure *failure) {
	if (!check_envelope(content, size, failure)) {
		return NULL;
	}
	uint32_t head[5]; // dtype, inputs, outputs, ops, zero
	memcpy(head, content + sizeof MAGIC + sizeof(uint32_t), sizeof head);
	bool known = (head[0] == FLOAT32 || head[0] == FLOAT64) && head[4] == 0;
	if (!known || head[1] < 1 || head[1] > MAX_WIDTH || head[2] < 1 || head[2] > MAX_WIDTH || head[3] > MAX_OPS) {
		fail(failure, "the header is not usable: dtype %u, %u inputs, %u outputs (at most %d), %u ops (at most %d)", head[0],
		     head[1], head[2], MAX_WIDTH, head[3], MAX_OPS);
		return NULL;
	}
	struct cursor cursor = {.at = content + HEADER_BYTES, .left = size - HEADER_BYTES - SHA256_BYTES};
	if (head[3] > cursor.left / OP_HEADER_BYTES) {
		fail(failure, "the header declares %u ops, more than the file has", head[3]);
		return NULL;
	}
	struct network *network = calloc(1, sizeof *network);
	struct op *ops = calloc((size_t)head[3] + 1, sizeof *ops); // one more: there may be none
	if (!network || !ops) {
		fail(failure, "out of memory");
		free(network);
		free(ops);
		return NULL;
	}
	*network = (struct network){.dtype = head[0], .n_inputs = head[1], .n_outputs = head[2], .ops = ops};
	if (!read_ops(&cursor, network, head[3], failure)) {
		network_free(network);
		return NULL;
	}
	return network;
}

uint8_t *model_file_bytes(const char *path, size_t *size, struct failure *failure) {
	FILE *file = fopen(path, "rb");
	if (!file) {
		fail(failure, "cannot open '%s': %s", path, strerror(errno));
		return NULL;
	}
	size_t capacity = 1 << 16;
	uint8_t *bytes = malloc(capacity);
	*size = 0;
	// Read until the end, not to the size that the file has now: it may be a pipe, or grow.
	while (bytes) {
		*size += fread(bytes + *size, 1, capacity - *size, file);
		if (*size < capacity || capacity > MAX_FILE_BYTES) {
			break;
		}
		capacity *= 2;
		uint8_t *larger = realloc(bytes, capacity);
		if (!larger) {
			free(bytes);
		}
		bytes = larger;
	}
	bool broken = ferror(file);
	fclose(file);
	if (!bytes || broken) {
		fail(failure, broken ? "cannot read '%s'" : "out of memory for '%s'", path);
		free(bytes);
		return NULL;
	}
	return bytes;
}
