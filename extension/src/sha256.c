#include "sha256.h"

#include <string.h>

enum { BLOCK = 64, ROUNDS = 64 };

// Section 4.2.2: the first 32 bits of the fractional parts of the cube roots of the first 64 primes.
static const uint32_t ROUND_CONSTANTS[ROUNDS] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotated(uint32_t word, int bits) {
	return word >> bits | word << (32 - bits);
}

static void absorb(uint32_t state[8], const uint8_t *block) {
	uint32_t schedule[ROUNDS];
	for (int t = 0; t < 16; t++) {
		const uint8_t *byte = block + 4 * t;
		schedule[t] = (uint32_t)byte[0] << 24 | (uint32_t)byte[1] << 16 | (uint32_t)byte[2] << 8 | byte[3];
	}
	for (int t = 16; t < ROUNDS; t++) {
		uint32_t w15 = schedule[t - 15], w2 = schedule[t - 2];
		uint32_t s0 = rotated(w15, 7) ^ rotated(w15, 18) ^ w15 >> 3;
		uint32_t s1 = rotated(w2, 17) ^ rotated(w2, 19) ^ w2 >> 10;
		schedule[t] = s1 + schedule[t - 7] + s0 + schedule[t - 16];
	}
	uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
	uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
	for (int t = 0; t < ROUNDS; t++) {
		uint32_t s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
		uint32_t choice = (e & f) ^ (~e & g);
		uint32_t first = h + s1 + choice + ROUND_CONSTANTS[t] + schedule[t];
		uint32_t s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
		uint32_t majority = (a & b) ^ (a & c) ^ (b & c);
		h = g, g = f, f = e, e = d + first;
		d = c, c = b, b = a, a = first + s0 + majority;
	}
	state[0] += a, state[1] += b, state[2] += c, state[3] += d;
	state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

void sha256(const uint8_t *data, size_t size, uint8_t digest[SHA256_BYTES]) {
	uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	size_t whole = size / BLOCK * BLOCK;
	for (size_t at = 0; at < whole; at += BLOCK) {
		absorb(state, data + at);
	}
	uint8_t tail[2 * BLOCK] = {0};
	size_t rest = size - whole;
	if (rest) {
		memcpy(tail, data + whole, rest);
	}
	tail[rest] = 0x80;
	size_t padded = rest + 9 <= BLOCK ? BLOCK : 2 * BLOCK;
	uint64_t bits = (uint64_t)size * 8;
	for (int i = 0; i < 8; i++) {
		tail[padded - 1 - i] = (uint8_t)(bits >> 8 * i);
	}
	for (size_t at = 0; at < padded; at += BLOCK) {
		absorb(state, tail + at);
	}
	for (int i = 0; i < SHA256_BYTES; i++) {
		digest[i] = (uint8_t)(state[i / 4] >> (24 - i % 4 * 8));
	}
}
