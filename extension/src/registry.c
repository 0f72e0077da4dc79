#define _POSIX_C_SOURCE 200809L
#include "registry.h"

#include "model_file.h"
#include "sha256.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What a model is to its users, behind the count of them.
struct counted {
	atomic_size_t users; // the registry is one
	size_t name_length;
	struct model model; // last: it ends with the name
};

struct registry {
	atomic_size_t functions;
	pthread_rwlock_t lock; // of what follows
	struct counted **models; // in the order of their names
	size_t n, capacity;
};

static struct counted *counted_of(const struct model *model) {
	return (struct counted *)((char *)model - offsetof(struct counted, model));
}

struct registry *registry_create(void) {
	struct registry *registry = calloc(1, sizeof *registry);
	if (registry && pthread_rwlock_init(&registry->lock, NULL) != 0) {
		free(registry);
		return NULL;
	}
	return registry ? registry_share(registry) : NULL;
}

struct registry *registry_share(struct registry *registry) {
	atomic_fetch_add(&registry->functions, 1);
	return registry;
}

void registry_release(void *shared) {
	struct registry *registry = shared;
	if (atomic_fetch_sub(&registry->functions, 1) > 1) {
		return;
	}
	for (size_t i = 0; i < registry->n; i++) {
		model_release(&registry->models[i]->model);
	}
	free(registry->models);
	pthread_rwlock_destroy(&registry->lock);
	free(registry);
}

void model_release(const struct model *model) {
	struct counted *counted = counted_of(model);
	if (atomic_fetch_sub(&counted->users, 1) == 1) {
		network_free((struct network *)counted->model.network);
		free(counted);
	}
}

// Where the name is, or belongs; the lock is held.
static size_t position(const struct registry *registry, const char *name, size_t length, bool *found) {
	size_t low = 0, high = registry->n;
	*found = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct counted *there = registry->models[middle];
		size_t shorter = length < there->name_length ? length : there->name_length;
		int order = memcmp(name, there->model.name, shorter);
		if (order == 0 && length == there->name_length) {
			*found = true;
			return middle;
		}
		if (order < 0 || (order == 0 && length < there->name_length)) {
			high = middle;
		} else {
			low = middle + 1;
		}
	}
	return low;
}

const struct model *registry_find(struct registry *registry, const char *name, size_t length) {
	bool found;
	const struct model *model = NULL;
	pthread_rwlock_rdlock(&registry->lock);
	size_t at = position(registry, name, length, &found);
	if (found) {
		atomic_fetch_add(&registry->models[at]->users, 1);
		model = &registry->models[at]->model;
	}
	pthread_rwlock_unlock(&registry->lock);
	return model;
}

static bool check_name(const char *name, struct failure *failure) {
	if (!*name || strlen(name) > MAX_NAME_BYTES) {
		fail(failure, "a model's name has 1 to %d bytes", MAX_NAME_BYTES);
		return false;
	}
	return true;
}

static struct counted *counted_create(const char *name, const uint8_t *content, size_t size, struct failure *failure) {
	struct failure reason;
	struct network *network = model_file_read(content, size, &reason);
	if (!network) {
		fail(failure, "model '%s': %s", name, reason.text);
		return NULL;
	}
	size_t length = strlen(name);
	struct counted *counted = calloc(1, sizeof *counted + length + 1);
	if (!counted) {
		fail(failure, "model '%s': out of memory", name);
		network_free(network);
		return NULL;
	}
	counted->users = 2; // the registry and the caller
	counted->name_length = length;
	counted->model.network = network;
	memcpy(counted->model.name, name, length);
	const uint8_t *digest = content + size - SHA256_BYTES; // checked when it was read
	for (int i = 0; i < SHA256_BYTES; i++) {
		snprintf(counted->model.hash + (size_t)2 * i, 3, "%02x", digest[i]);
	}
	return counted;
}

// Puts the model in its place and returns the one that it replaces; the lock is held.
static bool put(struct registry *registry, struct counted *counted, struct counted **replaced) {
	bool found;
	size_t at = position(registry, counted->model.name, counted->name_length, &found);
	*replaced = NULL;
	if (found) {
		*replaced = registry->models[at];
		registry->models[at] = counted;
		return true;
	}
	if (registry->n == registry->capacity) {
		size_t capacity = registry->capacity ? 2 * registry->capacity : 8;
		struct counted **models = realloc(registry->models, capacity * sizeof *models);
		if (!models) {
			return false;
		}
		registry->models = models;
		registry->capacity = capacity;
	}
	memmove(registry->models + at + 1, registry->models + at, (registry->n - at) * sizeof *registry->models);
	registry->models[at] = counted;
	registry->n++;
	return true;
}

const struct model *registry_register(struct registry *registry, const char *name, const uint8_t *content, size_t size,
                                      struct failure *failure) {
	struct counted *counted = check_name(name, failure) ? counted_create(name, content, size, failure) : NULL;
	if (!counted) {
		return NULL;
	}
	struct counted *replaced;
	pthread_rwlock_wrlock(&registry->lock);
	bool done = put(registry, counted, &replaced);
	pthread_rwlock_unlock(&registry->lock);
	if (replaced) {
		model_release(&replaced->model);
	}
	if (!done) {
		fail(failure, "model '%s': out of memory", name);
		model_release(&counted->model);
		model_release(&counted->model);
		return NULL;
	}
	return &counted->model;
}

bool registry_unregister(struct registry *registry, const char *name, struct failure *failure) {
	bool found;
	struct counted *removed = NULL;
	pthread_rwlock_wrlock(&registry->lock);
	size_t at = position(registry, name, strlen(name), &found);
	if (found) {
		removed = registry->models[at];
		registry->n--;
		memmove(registry->models + at, registry->models + at + 1, (registry->n - at) * sizeof *registry->models);
	}
	pthread_rwlock_unlock(&registry->lock);
	if (!removed) {
		fail(failure, "there is no model '%s'; FROM skipml_models() lists them", name);
		return false;
	}
	model_release(&removed->model);
	return true;
}

const struct model **registry_list(struct registry *registry, size_t *n) {
	pthread_rwlock_rdlock(&registry->lock);
	*n = registry->n;
	const struct model **models = malloc((*n + 1) * sizeof *models); // one more: there may be none
	for (size_t i = 0; models && i < *n; i++) {
		atomic_fetch_add(&registry->models[i]->users, 1);
		models[i] = &registry->models[i]->model;
	}
	pthread_rwlock_unlock(&registry->lock);
	return models;
}
