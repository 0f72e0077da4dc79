// What the files with DuckDB's API share.
#ifndef SKIPML_EXTENSION_H
#define SKIPML_EXTENSION_H

#include "registry.h"

#define DUCKDB_EXTENSION_NAME skipml
#include "duckdb_extension.h"

DUCKDB_EXTENSION_EXTERN

// Each function of the extension holds a share of the registry. False where DuckDB refuses one.
bool register_scalar_functions(duckdb_connection connection, struct registry *registry);
bool register_table_functions(duckdb_connection connection, struct registry *registry);

#endif
