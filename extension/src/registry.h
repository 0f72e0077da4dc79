// The models that one database instance knows, by name.
#ifndef SKIPML_REGISTRY_H
#define SKIPML_REGISTRY_H

#include "failure.h"
#include "network.h"

enum { MAX_NAME_BYTES = 1024, HASH_CHARACTERS = 64 };

struct registry;

// A model and its name. A query that holds one may go on with it when the name gets another or none.
struct model {
	const struct network *network;
	char hash[HASH_CHARACTERS + 1]; // sha256 of the file's content, in hexadecimal
	char name[];
};

struct registry *registry_create(void);

// The functions of the extension share one registry: it goes when the last of them goes.
struct registry *registry_share(struct registry *registry);
void registry_release(void *registry);

// Makes the model in the file's content known; other content under that name is replaced. Returns it, to be released.
const struct model *registry_register(struct registry *registry, const char *name, const uint8_t *content, size_t size,
                                      struct failure *failure);
bool registry_unregister(struct registry *registry, const char *name, struct failure *failure);

// The model of that name, to be released, or NULL.
const struct model *registry_find(struct registry *registry, const char *name, size_t length);
void model_release(const struct model *model);

// All models in the order of their names, an array to be freed, its models to be released; NULL if out of memory.
const struct model **registry_list(struct registry *registry, size_t *n);

#endif
