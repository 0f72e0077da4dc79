// skipml_score, skipml_score_double, skipml_scores, skipml_scores_double, skipml_class.
#include "extension.h"
#include "kernel.h"
#include "rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_ROWS = 192, ALIGNMENT = 64 }; // rows whose outputs are held at once, a multiple of every kernel's group

enum result { SCORE, SCORES, CLASS };

// What one SQL function is.
struct function {
	struct registry *registry;
	const struct kernel *kernel;
	const char *name, *other_name; // the other one takes the other dtype
	enum result result;
	enum dtype dtype; // of the network; CLASS takes both
};

// One call, for one chunk.
struct call {
	const struct function *function;
	const double *const *columns;
	size_t n_columns;
	duckdb_vector output;
};

static size_t argmax_float(const float *values, size_t n) {
	size_t best = 0;
	for (size_t i = 1; i < n && !isnan(values[best]); i++) {
		best = values[i] > values[best] || isnan(values[i]) ? i : best;
	}
	return best;
}

static size_t argmax_double(const double *values, size_t n) {
	size_t best = 0;
	for (size_t i = 1; i < n && !isnan(values[best]); i++) {
		best = values[i] > values[best] || isnan(values[i]) ? i : best;
	}
	return best;
}

static bool fits(const struct call *call, const struct model *model, struct failure *failure) {
	const struct function *function = call->function;
	const struct network *network = model->network;
	if (call->n_columns != network->n_inputs) {
		fail(failure, "model '%s' has %zu inputs, but %s got %zu values for it", model->name, network->n_inputs, function->name,
		     call->n_columns);
		return false;
	}
	if (function->result != CLASS && function->dtype != network->dtype) {
		fail(failure, "model '%s' computes in %s: use %s instead of %s", model->name,
		     network->dtype == FLOAT32 ? "float32" : "float64", function->other_name, function->name);
		return false;
	}
	if (function->result == SCORE && network->n_outputs != 1) {
		fail(failure, "model '%s' has %zu outputs, %s takes models of one: use %s or skipml_class", model->name,
		     network->n_outputs, function->name, function->dtype == FLOAT32 ? "skipml_scores" : "skipml_scores_double");
		return false;
	}
	return true;
}

// Writes the results of `n` rows, whose outputs lie one after the other.
static void deliver(const struct call *call, const struct network *network, const uint32_t *at, uint32_t first, size_t n,
                    const void *outputs) {
	size_t width = network->n_outputs;
	void *results = duckdb_vector_get_data(call->output);
	for (size_t i = 0; i < n; i++) {
		size_t row = at ? at[i] : first + i;
		if (call->function->result == SCORE && network->dtype == FLOAT32) {
			((float *)results)[row] = ((const float *)outputs)[i];
		} else if (call->function->result == SCORE) {
			((double *)results)[row] = ((const double *)outputs)[i];
		} else {
			((int32_t *)results)[row] = (int32_t)(network->dtype == FLOAT32
			                                          ? argmax_float((const float *)outputs + i * width, width)
			                                          : argmax_double((const double *)outputs + i * width, width));
		}
	}
}

static bool score_in_blocks(const struct call *call, const struct network *network, struct rows rows, void *scratch) {
	size_t block = rows.n < BLOCK_ROWS ? rows.n : BLOCK_ROWS;
	void *outputs = malloc(block * network->n_outputs * dtype_size(network->dtype));
	const double **columns = malloc(network->n_inputs * sizeof *columns);
	if (!outputs || !columns) {
		free(outputs);
		free(columns);
		return false;
	}
	for (size_t start = 0; start < rows.n; start += BLOCK_ROWS) {
		size_t n = rows.n - start < BLOCK_ROWS ? rows.n - start : BLOCK_ROWS;
		const uint32_t *at = rows.at ? rows.at + start : NULL;
		for (size_t i = 0; i < network->n_inputs; i++) {
			columns[i] = call->columns[i] + (at ? 0 : start);
		}
		kernel_forward(call->function->kernel, network, columns, at, n, outputs, scratch);
		deliver(call, network, at, (uint32_t)start, n, outputs);
	}
	free(outputs);
	free(columns);
	return true;
}

// Lists are filled one after the other behind those that the result has.
static bool score_lists(const struct call *call, const struct network *network, struct rows rows, void *scratch) {
	size_t width = network->n_outputs, used = duckdb_list_vector_get_size(call->output);
	if (duckdb_list_vector_reserve(call->output, used + rows.n * width) != DuckDBSuccess ||
	    duckdb_list_vector_set_size(call->output, used + rows.n * width) != DuckDBSuccess) {
		return false;
	}
	char *values = duckdb_vector_get_data(duckdb_list_vector_get_child(call->output));
	void *outputs = values + used * dtype_size(network->dtype);
	kernel_forward(call->function->kernel, network, call->columns, rows.at, rows.n, outputs, scratch);
	duckdb_list_entry *entries = duckdb_vector_get_data(call->output);
	for (size_t i = 0; i < rows.n; i++) {
		entries[rows.at ? rows.at[i] : i] = (duckdb_list_entry){.offset = used + i * width, .length = width};
	}
	return true;
}

static bool score_rows(const struct call *call, const struct model *model, struct rows rows, struct failure *failure) {
	const struct function *function = call->function;
	const struct network *network = model->network;
	if (!fits(call, model, failure)) {
		return false;
	}
	size_t bytes = kernel_scratch_bytes(function->kernel, network);
	void *scratch = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
	bool done = scratch != NULL;
	if (done && function->result == SCORES) {
		done = score_lists(call, network, rows, scratch);
	} else if (done && function->result == SCORE && !rows.at) {
		kernel_forward(function->kernel, network, call->columns, NULL, rows.n, duckdb_vector_get_data(call->output), scratch);
	} else if (done) {
		done = score_in_blocks(call, network, rows, scratch);
	}
	free(scratch);
	if (!done) {
		fail(failure, "model '%s': out of memory for %zu rows", model->name, rows.n);
	}
	return done;
}

// Scores the rows that name the same model as the first one that is pending.
static bool score_first_name(const struct call *call, const duckdb_string_t *names, struct rows *pending,
                             struct failure *failure) {
	struct rows rows;
	if (!rows_of_first_name(pending, names, &rows)) {
		fail(failure, "out of memory");
		return false;
	}
	duckdb_string_t name = names[rows.at ? rows.at[0] : 0];
	const char *text = duckdb_string_t_data(&name);
	uint32_t length = duckdb_string_t_length(name);
	const struct model *model = registry_find(call->function->registry, text, length);
	bool done = false;
	if (model) {
		done = score_rows(call, model, rows, failure);
		model_release(model);
	} else {
		fail(failure, "there is no model '%.*s': CALL skipml_register(name, content) or skipml_load(path) makes one known",
		     (int)(length < MAX_NAME_BYTES ? length : MAX_NAME_BYTES), text);
	}
	free(rows.at);
	return done;
}

static void call_function(duckdb_function_info info, duckdb_data_chunk chunk, duckdb_vector output) {
	const struct function *function = duckdb_scalar_function_get_extra_info(info);
	size_t n_columns = duckdb_data_chunk_get_column_count(chunk) - 1;
	const double **columns = malloc((n_columns + 1) * sizeof *columns); // one more: there may be none
	struct rows pending = {NULL, 0};
	struct failure failure = {"out of memory"};
	bool done = columns && rows_valid(chunk, output, &pending);
	for (size_t i = 0; done && i < n_columns; i++) {
		columns[i] = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, i + 1));
	}
	if (done && function->result == SCORES && pending.at) {
		size_t n = duckdb_data_chunk_get_size(chunk);
		memset(duckdb_vector_get_data(output), 0, n * sizeof(duckdb_list_entry)); // of the NULL rows
	}
	struct call call = {function, columns, n_columns, output};
	const duckdb_string_t *names = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));
	while (done && pending.n) {
		done = score_first_name(&call, names, &pending, &failure);
	}
	if (!done) {
		duckdb_scalar_function_set_error(info, failure.text);
	}
	free(pending.at);
	free(columns);
}

static void function_free(void *extra_info) {
	struct function *function = extra_info;
	registry_release(function->registry);
	free(function);
}

static duckdb_logical_type result_type(enum result result, enum dtype dtype) {
	if (result == CLASS) {
		return duckdb_create_logical_type(DUCKDB_TYPE_INTEGER);
	}
	duckdb_logical_type one = duckdb_create_logical_type(dtype == FLOAT32 ? DUCKDB_TYPE_FLOAT : DUCKDB_TYPE_DOUBLE);
	if (result == SCORE) {
		return one;
	}
	duckdb_logical_type list = duckdb_create_list_type(one);
	duckdb_destroy_logical_type(&one);
	return list;
}

static bool register_function(duckdb_connection connection, struct registry *registry, struct function description) {
	struct function *function = malloc(sizeof *function);
	if (!function) {
		return false;
	}
	const struct kernel *usable[N_ISAS];
	kernels_usable(usable);
	*function = description;
	function->registry = registry_share(registry);
	function->kernel = usable[0];
	duckdb_logical_type name = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
	duckdb_logical_type value = duckdb_create_logical_type(DUCKDB_TYPE_DOUBLE);
	duckdb_logical_type returned = result_type(function->result, function->dtype);
	duckdb_scalar_function sql = duckdb_create_scalar_function();
	duckdb_scalar_function_set_name(sql, function->name);
	duckdb_scalar_function_add_parameter(sql, name);
	duckdb_scalar_function_set_varargs(sql, value);
	duckdb_scalar_function_set_return_type(sql, returned);
	duckdb_scalar_function_set_extra_info(sql, function, function_free);
	duckdb_scalar_function_set_function(sql, call_function);
	duckdb_state state = duckdb_register_scalar_function(connection, sql);
	duckdb_destroy_scalar_function(&sql);
	duckdb_destroy_logical_type(&returned);
	duckdb_destroy_logical_type(&value);
	duckdb_destroy_logical_type(&name);
	return state == DuckDBSuccess;
}

bool register_scalar_functions(duckdb_connection connection, struct registry *registry) {
	static const struct function functions[] = {
	    {.name = "skipml_score", .other_name = "skipml_score_double", .result = SCORE, .dtype = FLOAT32},
	    {.name = "skipml_score_double", .other_name = "skipml_score", .result = SCORE, .dtype = FLOAT64},
	    {.name = "skipml_scores", .other_name = "skipml_scores_double", .result = SCORES, .dtype = FLOAT32},
	    {.name = "skipml_scores_double", .other_name = "skipml_scores", .result = SCORES, .dtype = FLOAT64},
	    {.name = "skipml_class", .result = CLASS},
	};
	bool done = true;
	for (size_t i = 0; done && i < sizeof functions / sizeof *functions; i++) {
		done = register_function(connection, registry, functions[i]);
	}
	return done;
}
