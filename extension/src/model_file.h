// The model file: README.md describes it byte by byte.
#ifndef SKIPML_MODEL_FILE_H
#define SKIPML_MODEL_FILE_H

#include "failure.h"
#include "network.h"

enum { MAX_FILE_BYTES = 1 << 30 };

// The network in the `size` bytes at `content`, or NULL where they are not a whole, undamaged, usable model file.
struct network *model_file_read(const uint8_t *content, size_t size, struct failure *failure);

// The bytes of the file at `path`, to be freed, or NULL.
uint8_t *model_file_bytes(const char *path, size_t *size, struct failure *failure);

#endif
