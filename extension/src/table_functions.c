// CALL skipml_register, skipml_load, skipml_unregister; FROM skipml_models().
#include "extension.h"
#include "model_file.h"

#include <stdlib.h>
#include <string.h>

// The arguments of a CALL, copied when it is bound and used when it runs.
struct arguments {
	char *name, *path;
	uint8_t *content;
	size_t size;
};

// The models that a running call has yet to return.
struct listing {
	bool started;
	const struct model **models;
	size_t n, next;
};

static void arguments_free(void *bind_data) {
	struct arguments *arguments = bind_data;
	duckdb_free(arguments->name);
	duckdb_free(arguments->path);
	duckdb_free(arguments->content);
	free(arguments);
}

static void listing_free(void *init_data) {
	struct listing *listing = init_data;
	for (size_t i = listing->next; i < listing->n; i++) {
		model_release(listing->models[i]);
	}
	free(listing->models);
	free(listing);
}

static void add_column(duckdb_bind_info info, const char *name, duckdb_type id) {
	duckdb_logical_type type = duckdb_create_logical_type(id);
	duckdb_bind_add_result_column(info, name, type);
	duckdb_destroy_logical_type(&type);
}

static void bind_columns(duckdb_bind_info info) {
	add_column(info, "name", DUCKDB_TYPE_VARCHAR);
	add_column(info, "dtype", DUCKDB_TYPE_VARCHAR);
	add_column(info, "inputs", DUCKDB_TYPE_BIGINT);
	add_column(info, "outputs", DUCKDB_TYPE_BIGINT);
	add_column(info, "layers", DUCKDB_TYPE_BIGINT);
	add_column(info, "macs", DUCKDB_TYPE_BIGINT);
	add_column(info, "hash", DUCKDB_TYPE_VARCHAR);
}

// NULL, with an error, where the argument is NULL.
static char *bind_text(duckdb_bind_info info, duckdb_value value) {
	char *text = value && !duckdb_is_null_value(value) ? duckdb_get_varchar(value) : NULL;
	duckdb_destroy_value(&value);
	if (!text) {
		duckdb_bind_set_error(info, "skipml: an argument is NULL");
	}
	return text;
}

static struct arguments *bind_arguments(duckdb_bind_info info) {
	struct arguments *arguments = calloc(1, sizeof *arguments);
	if (!arguments) {
		duckdb_bind_set_error(info, "skipml: out of memory");
		return NULL;
	}
	duckdb_bind_set_bind_data(info, arguments, arguments_free);
	return arguments;
}

static void bind_register(duckdb_bind_info info) {
	bind_columns(info);
	struct arguments *arguments = bind_arguments(info);
	if (!arguments || !(arguments->name = bind_text(info, duckdb_bind_get_parameter(info, 0)))) {
		return;
	}
	duckdb_value value = duckdb_bind_get_parameter(info, 1);
	if (duckdb_is_null_value(value)) {
		duckdb_bind_set_error(info, "skipml: the content of a model is NULL");
	} else {
		duckdb_blob blob = duckdb_get_blob(value);
		arguments->content = blob.data;
		arguments->size = blob.size;
	}
	duckdb_destroy_value(&value);
}

// The name that a file gives its model: without folders, up to the last dot.
static char *stem(const char *path) {
	const char *slash = strrchr(path, '/');
	const char *start = slash ? slash + 1 : path;
	const char *dot = strrchr(start, '.');
	size_t length = dot && dot > start ? (size_t)(dot - start) : strlen(start);
	char *name = duckdb_malloc(length + 1);
	if (name) {
		memcpy(name, start, length);
		name[length] = 0;
	}
	return name;
}

static void bind_load(duckdb_bind_info info) {
	bind_columns(info);
	struct arguments *arguments = bind_arguments(info);
	if (!arguments || !(arguments->path = bind_text(info, duckdb_bind_get_parameter(info, 0)))) {
		return;
	}
	duckdb_value name = duckdb_bind_get_named_parameter(info, "name");
	arguments->name = name ? bind_text(info, name) : stem(arguments->path);
}

static void bind_unregister(duckdb_bind_info info) {
	add_column(info, "name", DUCKDB_TYPE_VARCHAR);
	struct arguments *arguments = bind_arguments(info);
	if (arguments) {
		arguments->name = bind_text(info, duckdb_bind_get_parameter(info, 0));
	}
}

static void start(duckdb_init_info info) {
	struct listing *listing = calloc(1, sizeof *listing);
	if (!listing) {
		duckdb_init_set_error(info, "skipml: out of memory");
		return;
	}
	duckdb_init_set_init_data(info, listing, listing_free);
}

static void write_model(duckdb_data_chunk output, size_t row, const struct model *model) {
	const struct network *network = model->network;
	int64_t numbers[] = {(int64_t)network->n_inputs, (int64_t)network->n_outputs, (int64_t)network->n_layers,
	                     (int64_t)network->macs};
	duckdb_vector_assign_string_element(duckdb_data_chunk_get_vector(output, 0), row, model->name);
	duckdb_vector_assign_string_element(duckdb_data_chunk_get_vector(output, 1), row,
	                                    network->dtype == FLOAT32 ? "float32" : "float64");
	for (size_t i = 0; i < 4; i++) {
		((int64_t *)duckdb_vector_get_data(duckdb_data_chunk_get_vector(output, 2 + i)))[row] = numbers[i];
	}
	duckdb_vector_assign_string_element(duckdb_data_chunk_get_vector(output, 6), row, model->hash);
}

static void write_models(struct listing *listing, duckdb_data_chunk output) {
	size_t row = 0, most = duckdb_vector_size();
	for (; row < most && listing->next < listing->n; row++, listing->next++) {
		write_model(output, row, listing->models[listing->next]);
		model_release(listing->models[listing->next]);
	}
	duckdb_data_chunk_set_size(output, row);
}

static void run_models(duckdb_function_info info, duckdb_data_chunk output) {
	struct listing *listing = duckdb_function_get_init_data(info);
	if (!listing->started) {
		listing->started = true;
		listing->models = registry_list(duckdb_function_get_extra_info(info), &listing->n);
		if (!listing->models) {
			listing->n = 0;
			duckdb_function_set_error(info, "skipml: out of memory");
			return;
		}
	}
	write_models(listing, output);
}

// Registers content of a file or an argument, once per call, and returns the model as skipml_models() would.
static void run_register(duckdb_function_info info, duckdb_data_chunk output) {
	struct listing *listing = duckdb_function_get_init_data(info);
	const struct arguments *arguments = duckdb_function_get_bind_data(info);
	if (listing->started) {
		duckdb_data_chunk_set_size(output, 0);
		return;
	}
	listing->started = true;
	struct failure failure;
	const uint8_t *content = arguments->content;
	size_t size = arguments->size;
	uint8_t *read = NULL;
	if (arguments->path) {
		content = read = model_file_bytes(arguments->path, &size, &failure);
	}
	const struct model *model = NULL;
	if (content || !arguments->path) {
		static const uint8_t nothing[1];
		struct registry *registry = duckdb_function_get_extra_info(info);
		model = registry_register(registry, arguments->name, content ? content : nothing, size, &failure);
	}
	free(read);
	if (!model) {
		duckdb_function_set_error(info, failure.text);
		return;
	}
	write_model(output, 0, model);
	model_release(model);
	duckdb_data_chunk_set_size(output, 1);
}

static void run_unregister(duckdb_function_info info, duckdb_data_chunk output) {
	struct listing *listing = duckdb_function_get_init_data(info);
	const struct arguments *arguments = duckdb_function_get_bind_data(info);
	if (listing->started) {
		duckdb_data_chunk_set_size(output, 0);
		return;
	}
	listing->started = true;
	struct failure failure;
	if (!registry_unregister(duckdb_function_get_extra_info(info), arguments->name, &failure)) {
		duckdb_function_set_error(info, failure.text);
		return;
	}
	duckdb_vector_assign_string_element(duckdb_data_chunk_get_vector(output, 0), 0, arguments->name);
	duckdb_data_chunk_set_size(output, 1);
}

// What one SQL function is; `parameters` ends with DUCKDB_TYPE_INVALID.
struct description {
	const char *name;
	duckdb_type parameters[3];
	const char *named_parameter;
	duckdb_table_function_bind_t bind;
	duckdb_table_function_t run;
};

static bool register_function(duckdb_connection connection, struct registry *registry, const struct description *description) {
	duckdb_table_function sql = duckdb_create_table_function();
	duckdb_table_function_set_name(sql, description->name);
	for (const duckdb_type *id = description->parameters; *id != DUCKDB_TYPE_INVALID; id++) {
		duckdb_logical_type type = duckdb_create_logical_type(*id);
		duckdb_table_function_add_parameter(sql, type);
		duckdb_destroy_logical_type(&type);
	}
	if (description->named_parameter) {
		duckdb_logical_type type = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
		duckdb_table_function_add_named_parameter(sql, description->named_parameter, type);
		duckdb_destroy_logical_type(&type);
	}
	duckdb_table_function_set_extra_info(sql, registry_share(registry), registry_release);
	duckdb_table_function_set_bind(sql, description->bind);
	duckdb_table_function_set_init(sql, start);
	duckdb_table_function_set_function(sql, description->run);
	duckdb_state state = duckdb_register_table_function(connection, sql);
	duckdb_destroy_table_function(&sql);
	return state == DuckDBSuccess;
}

bool register_table_functions(duckdb_connection connection, struct registry *registry) {
	static const struct description descriptions[] = {
	    {"skipml_register", {DUCKDB_TYPE_VARCHAR, DUCKDB_TYPE_BLOB}, NULL, bind_register, run_register},
	    {"skipml_load", {DUCKDB_TYPE_VARCHAR}, "name", bind_load, run_register},
	    {"skipml_unregister", {DUCKDB_TYPE_VARCHAR}, NULL, bind_unregister, run_unregister},
	    {"skipml_models", {DUCKDB_TYPE_INVALID}, NULL, bind_columns, run_models},
	};
	bool done = true;
	for (size_t i = 0; done && i < sizeof descriptions / sizeof *descriptions; i++) {
		done = register_function(connection, registry, &descriptions[i]);
	}
	return done;
}
