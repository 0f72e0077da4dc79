#include "network.h"

#include "forest.h"

#include <stdlib.h>

void network_free(struct network *network) {
	if (!network) {
		return;
	}
	for (size_t i = 0; i < network->n_ops; i++) {
		free(network->ops[i].constants);
	}
	forest_free(network->forest);
	free(network->ops);
	free(network);
}
