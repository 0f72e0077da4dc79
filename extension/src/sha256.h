// SHA-256 (FIPS 180-4): the checksum of a model file, which also names its content.
#ifndef SKIPML_SHA256_H
#define SKIPML_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32 };

void sha256(const uint8_t *data, size_t size, uint8_t digest[SHA256_BYTES]);

#endif
