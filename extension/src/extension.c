// The entry point that DuckDB calls on LOAD.
#include "extension.h"

DUCKDB_EXTENSION_ENTRYPOINT(duckdb_connection connection, duckdb_extension_info info, struct duckdb_extension_access *access) {
	struct registry *registry = registry_create();
	if (!registry) {
		access->set_error(info, "skipml: out of memory");
		return false;
	}
	bool done = register_scalar_functions(connection, registry) && register_table_functions(connection, registry);
	registry_release(registry);
	if (!done) {
		access->set_error(info, "skipml: DuckDB refused a function; is there another one of that name?");
	}
	return done;
}
