"""Shapes of queries, each with the least number of row groups it skips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_HIGH = "minus(a, b) > 370"
"""Only the last of the eight row groups of {one} can match."""


@dataclass(frozen=True)
class Shape:
    """A query over a `Lake`; `skips` row groups or more are left out, exactly 0 where that would be wrong."""

    sql: str
    skips: int | None = None
    params: Sequence[Any] | Mapping[str, Any] | None = None


def _shapes(skips: int | None, *queries: str) -> list[Shape]:
    return [Shape(query.replace("HIGH", _HIGH), skips) for query in queries]


FILES = [
    *_shapes(
        7,
        "SELECT id FROM {one} WHERE HIGH",
        "FROM {one} WHERE HIGH",
        "SELECT * FROM read_parquet({one}) WHERE HIGH",
        "SELECT * FROM parquet_scan({one}) WHERE HIGH",
        "SELECT count(*), sum(a), max(s) FROM {one} WHERE HIGH",
        "SELECT minus(a, b) FROM {one} WHERE HIGH",
        "SELECT t.* FROM {one} AS t WHERE minus(t.a, t.b) > 370",
        "SELECT u.x, u.y FROM {one} AS u(i, x, y) WHERE minus(x, y) > 370",
        "SELECT one.id FROM {one} WHERE minus(one.a, one.b) > 370",
    ),
    *_shapes(
        20,
        "SELECT id FROM {many} WHERE minus(a, b) > 1170",
        "SELECT count(*), sum(id) FROM read_parquet({many}) WHERE minus(a, b) > 1170",
        "SELECT id, p, q FROM {hive} WHERE minus(a, b) > 1170",
        "SELECT p, count(*) FROM {hive} WHERE minus(a, b) > 1170 GROUP BY ALL",
        "SELECT id FROM read_parquet({hive}, hive_partitioning = false) WHERE minus(a, b) > 1170",
    ),
    *_shapes(
        15,
        "SELECT id FROM {list} WHERE minus(a, b) > 1170",
        "SELECT id FROM {hive} WHERE minus(p * 1000, b) > 1500",
        "SELECT id FROM {hive} WHERE minus(p, 0) = 1",
        "SELECT count(*) FROM {hive} WHERE minus(p, 0) > 0 AND minus(a, b) > 1170 AND q = 'x'",
    ),
    *_shapes(
        8,
        "SELECT * FROM {union} WHERE minus(a, b) > -200",
        "SELECT id FROM {union} WHERE minus(a, b) > -200 AND id > 3",
        "SELECT id, filename FROM {union} WHERE minus(a, b) > -200",
    ),
    *_shapes(
        7,
        "SELECT id, filename FROM {one} WHERE HIGH",
        "SELECT id, file_row_number FROM {one} WHERE HIGH",
        "SELECT id, file_row_number FROM read_parquet({one}, file_row_number = true) WHERE HIGH",
        "SELECT * FROM read_parquet({one}, file_row_number = true) WHERE HIGH",
        "SELECT * FROM read_parquet({one}, filename = true) WHERE HIGH",
        "SELECT id FROM {one} WHERE HIGH AND file_row_number % 2 = 0",
        "SELECT count(DISTINCT filename), max(file_row_number) FROM {one} WHERE HIGH",
    ),
    *_shapes(
        None,  # DuckDB 1.5 keeps row numbers real only in one file
        "SELECT id, filename, file_row_number FROM {many} WHERE minus(a, b) > 1170",
        "SELECT * FROM read_parquet({many}, filename = true) WHERE minus(a, b) > 1170",
        "SELECT *, file_row_number FROM {many} WHERE minus(a, b) > 1170",
        "SELECT id FROM {one} WHERE minus(file_row_number, 0) > 370",
    ),
    *_shapes(
        7,
        'SELECT * FROM {odd} WHERE minus("order key", 0) > 370',
        'SELECT * FROM {odd} WHERE minus("1", 1) > 370',
        'SELECT * FROM {odd} WHERE minus("true", 1) > 370',
        'SELECT * FROM {odd} WHERE minus("a.b", 1) > 370',
        'SELECT * FROM {odd} WHERE minus("quo""ted", 1) > 370',
        'SELECT * FROM {odd} WHERE minus("select", 1) > 370',
        'SELECT * FROM {odd} WHERE minus("Ünïcode", 1) > 370',
        "SELECT * FROM {odd} WHERE minus(minus, 1) > 370",
        'SELECT t."select" AS "from" FROM {odd} t WHERE minus(t."ORDER KEY", 3) > 370',
    ),
]

CONDITIONS = [
    *_shapes(
        7,
        "SELECT id FROM {one} WHERE minus(a, b) >= 370",
        "SELECT id FROM {one} WHERE 370 < minus(a, b)",
        "SELECT id FROM {one} WHERE NOT minus(a, b) <= 370",
        "SELECT id FROM {one} WHERE minus(a, b) BETWEEN 370 AND 390",
        "SELECT id FROM {one} WHERE minus(a, 0) = 371",
        "SELECT id FROM {one} WHERE minus(a, 0) IN (371, 372, 399)",
        "SELECT id FROM {one} WHERE HIGH AND s = 'it''s 1' AND id % 2 = 0",
        "SELECT id FROM {one} WHERE HIGH AND s <> 'minus(a, b) > 3'",
        "SELECT 'minus(a, b) > 370 ''quoted''', id FROM {one} WHERE HIGH",
        "SELECT id /* minus( */ FROM {one} -- 'where minus(a, b) > 900\nWHERE HIGH -- end",
        "SELECT id FROM {one} WHERE MINUS(A, B) > 370",
        "SELECT id FROM {one} WHERE a.minus(b) > 370",
        "SELECT id FROM {one} WHERE minus(a, b) > 370.5 AND minus(b, a) < -300",
        "SELECT id FROM {one} WHERE minus(a, b) > '370'",
        "SELECT id FROM {one} WHERE minus(a, b) > 370::DOUBLE",
        "SELECT id FROM {one} WHERE minus(a, b)::DOUBLE > 370::DOUBLE",
        "SELECT id FROM {one} WHERE (minus(a, b) > 370 OR minus(a, b) > 380) AND (id > 3 OR minus(a, b) > 0)",
        "SELECT id FROM {one} WHERE (minus(a, b) > 370 AND id > 3) OR minus(a, b) > 380",
        "SELECT id FROM {one} WHERE risky(a, b)",
        "SELECT id FROM {one} WHERE minus(a, b) IS NOT NULL AND HIGH",
        "SELECT id FROM {one} WHERE minus(n, b) > 370",
        "SELECT id FROM {one} WHERE minus(a, 3) > 370",
        "SELECT id FROM {one} WHERE minus(a + 100, b) > 472",
        "SELECT id FROM {one} WHERE minus(a::FLOAT, b::TINYINT) > 370",
        "SELECT id FROM {one} WHERE minus(dec, b) > 370",
        "SELECT id FROM {one} WHERE minus(epoch(d) / 86400 - 18262, b) > 370",
        "SELECT id FROM {one} WHERE minus(extract(year FROM d), 2020) > 0.5",
        "SELECT id FROM {one} WHERE minus(year(d), 2020) > 0 AND HIGH",
        "SELECT id FROM {one} WHERE multi(a, b)[1] > 370",
        "SELECT id FROM {one} WHERE list_extract(multi(a, b), 1) > 370",
        "SELECT id FROM {one} WHERE multi(a, b)[3] < -370",
        "SELECT id FROM {one} WHERE HIGH AND multi_class(a, b) = 0",
        "SELECT id FROM {one} WHERE HIGH AND minus(a, b) < 1e30",
    ),
    *_shapes(
        4,
        "SELECT id FROM {one} WHERE multi_class(a, b) = 2",
        "SELECT id FROM {one} WHERE multi_class(a, b) IN (1, 2)",
        "SELECT id FROM {one} WHERE multi_class(a, b) <> 0",
        "SELECT id FROM {one} WHERE NOT multi_class(a, b) = 0",
        "SELECT id FROM {one} WHERE minus(a, b) NOT BETWEEN -200 AND 250",
        "SELECT id FROM {one} WHERE minus(a, b) < 0 OR minus(a, b) > 370",
    ),
    *_shapes(
        8,
        "SELECT id FROM {one} WHERE minus(a, b) > 1e30",
        "SELECT count(*) FROM {one} WHERE minus(a, b) > 1000",
        "SELECT * FROM {many} WHERE minus(a, b) > 1e30",
    ),
    *_shapes(
        0,
        "SELECT id FROM {one} WHERE minus(a, b) > -1000",
        "SELECT id FROM {one} WHERE HIGH OR id % 50 = 3",
        "SELECT id FROM {one} WHERE HIGH OR minus(a, b) IS NULL",
        "SELECT id FROM {one} WHERE (HIGH) IS NOT TRUE",
        "SELECT id FROM {one} WHERE (HIGH) IS DISTINCT FROM TRUE",
        "SELECT id FROM {one} WHERE coalesce(minus(n, 0), 1000) > 390",
        "SELECT id FROM {one} WHERE minus(coalesce(n, 1000), 0) > 390",
        "SELECT id FROM {one} WHERE CASE WHEN id > 3 THEN HIGH ELSE TRUE END",
        "SELECT id FROM {one} WHERE CASE WHEN HIGH THEN FALSE ELSE TRUE END",
        "SELECT id FROM {one} WHERE if(id = 3, 1000, minus(a, b)) > 370",
        "SELECT id FROM {one} WHERE minus(a % 50, 0) > 48",
        "SELECT id FROM {one} WHERE minus(CASE WHEN a = 3 THEN 1000 ELSE a END, b) > 370",
        "SELECT id FROM {one} WHERE minus(a, b) > b * 3",
        "SELECT id FROM {one} WHERE minus(a, b) > (SELECT 370)",
        "SELECT id FROM {one} WHERE -minus(a, b) < -370",
        "SELECT id FROM {one} WHERE minus(a, b) + id > 740",
        "SELECT id FROM {one} WHERE minus(a, b)::VARCHAR > '370'",
        "SELECT id FROM {one} WHERE minus(a, b) > 'nan'::FLOAT",
        "SELECT id FROM {one} WHERE minus(a, b) >= NULL",
        "SELECT id FROM {one} WHERE minus(a, NULL) > 370",
        "SELECT id FROM {one} WHERE multi(a, b)[4] > 370",
        "SELECT id FROM {one} WHERE multi(a, b)[-1] > 20",
        "SELECT id FROM {one} WHERE list_max(multi(a, b)) > 370",
        "SELECT id FROM {one} WHERE multi_class(a, b) > 0",
        "SELECT id FROM {one} WHERE minus(a, b) NOT IN (371, NULL)",
        "SELECT id FROM {one} WHERE minus(a, random()) > 370",
    ),
    *_shapes(
        None,  # sound to skip, but not all of it is found
        "SELECT id FROM {one} WHERE minus(a, b) > 3.7e2",
        "SELECT id FROM {one} WHERE NOT (minus(a, b) <= 370 OR b = 3)",
        "SELECT id FROM {one} WHERE minus(a * 2, b * 2 - b) > 700",
        "SELECT id FROM {one} WHERE minus(dec * 2, 400) > 370",
        "SELECT id FROM {one} WHERE minus(extract(year FROM d) * 1000 - 2020000, 0) > 900",
        "SELECT id FROM {one} WHERE minus(truth::INTEGER, 0) > 0",
        "SELECT t.id, k FROM {one} t JOIN (VALUES (380), (399)) v(k) ON t.id = k WHERE minus(t.a, t.b) > 370",
        "SELECT t.id, u.id FROM {one} t FULL JOIN {one} u ON t.id = u.id "
        "WHERE minus(t.a, t.b) > 370 AND minus(u.a, u.b) > 370",
    ),
    *_shapes(
        None,  # whether the constant is folded before the analysis is up to DuckDB
        "SELECT id FROM {one} WHERE minus(a, b) > 300 + 70",
        "SELECT id FROM {one} WHERE minus(a, b) > abs(-370)",
        "SELECT id FROM {one} WHERE minus(a, b) IN (SELECT 371)",
        "SELECT id FROM {one} WHERE minus(a, (SELECT 3)) > 370",
        "SELECT id FROM {one} WHERE (minus(a, b), id) > (370, 5)",
        "SELECT id FROM {one} WHERE minus(a, b) > ALL (SELECT z FROM small)",
    ),
    Shape("SELECT id FROM {one} WHERE minus(a, b) > ?", 7, [370]),
    Shape("SELECT id FROM {one} WHERE minus(a, ?) > ? AND id < ?", 7, [1, 370.5, 395]),
    Shape("SELECT id FROM {one} WHERE minus(a, b) > $2 AND id < $1", 7, [395, 370]),
    Shape("SELECT id FROM {one} WHERE minus(a, b) > $t AND s = $s", 7, {"t": 370, "s": "it's 1"}),
    Shape("SELECT id FROM {one} WHERE minus(a, b) BETWEEN $t AND $t + 10", None, {"t": 370}),
    Shape("SELECT id FROM {one} WHERE minus(a, b) > ?", 0, [None]),
    Shape("SELECT id FROM {one} WHERE minus(a, b) > ?", 0, [float("nan")]),
    Shape("SELECT id FROM {one} WHERE minus(a, b) > ?", 8, [float("inf")]),
    Shape("SELECT id FROM {one} WHERE minus(a, b) > ?", None, [2**70]),
    Shape("SELECT id FROM {one} WHERE minus(a, b) > ? AND s::BLOB <> ?", None, [370, b"x"]),
    Shape("SELECT id FROM {one} WHERE minus(a, b) > ? AND list_contains(?, id % 3)", None, [370, [0, 1]]),
]

WHOLE_QUERIES = [
    *_shapes(
        7,
        "SELECT id FROM plain_view WHERE minus(x, y) > 370",
        "SELECT v.* FROM nested_view v WHERE minus(v.p, v.q) > 370",
        "SELECT id FROM model_view",
        "SELECT id FROM model_view WHERE id % 2 = 0",
        "SELECT id FROM (SELECT id, a AS x, b AS y FROM {one}) WHERE minus(x, y) > 370",
        "SELECT id FROM (SELECT id, b AS a, a AS b FROM {one}) WHERE minus(b, a) > 370",
        "SELECT id FROM (SELECT id, a + 2 AS x, b::DOUBLE AS y FROM {one}) WHERE minus(x, y) > 374",
        "SELECT b AS a, a AS b FROM {one} WHERE HIGH",
        "WITH c AS (SELECT id, a AS q, b AS r FROM {one}) SELECT id FROM c WHERE minus(q, r) > 370",
        "WITH minus AS (FROM {one}) SELECT id FROM minus WHERE minus(a, b) > 370",
        "WITH c AS MATERIALIZED (FROM {one}) SELECT x.id FROM c x JOIN c y ON x.id = y.id "
        "WHERE minus(x.a, x.b) > 370 AND minus(y.a, y.b) > 370",
        "SELECT (SELECT max(id) FROM {one} WHERE HIGH) AS top",
        "SELECT id FROM small WHERE id IN (SELECT id FROM {one} WHERE HIGH)",
        "SELECT id FROM small WHERE id NOT IN (SELECT id FROM {one} WHERE HIGH)",
        "SELECT id FROM small s WHERE EXISTS (FROM {one} t WHERE t.id = s.id AND minus(t.a, t.b) > 370)",
        "SELECT id FROM small s WHERE NOT EXISTS (FROM {one} t WHERE t.id = s.id AND minus(t.a, t.b) > 370)",
        "SELECT id FROM {one} WHERE HIGH ORDER BY id LIMIT 5",
        "SELECT id FROM {one} WHERE HIGH ORDER BY id DESC LIMIT 3 OFFSET 2",
        "SELECT count(*) FROM (SELECT id FROM {one} WHERE HIGH LIMIT 1)",
        "SELECT DISTINCT s FROM {one} WHERE HIGH",
        "SELECT s, count(*) FROM {one} WHERE HIGH GROUP BY s HAVING count(*) > 1",
        "SELECT a, b FROM {one} GROUP BY a, b HAVING HIGH",
        "SELECT s, count(*) FROM {one} WHERE HIGH GROUP BY ROLLUP (s)",
        "SELECT id, row_number() OVER (ORDER BY id) FROM {one} WHERE HIGH",
        "SELECT id FROM {one} WHERE HIGH QUALIFY row_number() OVER (PARTITION BY s ORDER BY id) = 1",
        "SELECT id FROM (SELECT DISTINCT id, a, b FROM {one}) WHERE HIGH",
        "SELECT unnest([id, a]) FROM {one} WHERE HIGH",
        "SELECT * EXCLUDE (s) FROM {one} WHERE HIGH",
        "SELECT COLUMNS('a|b') FROM {one} WHERE HIGH",
        "SELECT id FROM (FROM {one} WHERE HIGH) USING SAMPLE 100%",
        "SELECT x.id FROM (SELECT id, minus(a, b) AS score FROM {one}) x WHERE x.score > 370",
    ),
    *_shapes(
        14,
        "SELECT id FROM {one} WHERE HIGH UNION ALL SELECT id FROM {one} WHERE minus(a, b) > 380",
        "SELECT id FROM {one} WHERE HIGH INTERSECT SELECT id FROM {one} WHERE minus(a, b) > 380",
        "SELECT id FROM {one} WHERE HIGH EXCEPT SELECT id FROM {one} WHERE minus(a, b) > 380",
        "SELECT id FROM (SELECT id, a, b FROM {one} UNION ALL SELECT id, a, b FROM {one}) WHERE HIGH",
        "SELECT id FROM (SELECT id, a, b FROM {one} EXCEPT SELECT id, a, b FROM {one} WHERE id = 399) WHERE HIGH",
        "SELECT id FROM {one} WHERE HIGH UNION BY NAME SELECT id, s FROM {one} WHERE HIGH",
    ),
    *_shapes(
        6,
        "WITH c AS MATERIALIZED (FROM {one}) SELECT (SELECT count(*) FROM c WHERE HIGH), "
        "(SELECT sum(id) FROM c WHERE minus(a, b) < -60)",
        "WITH c AS NOT MATERIALIZED (FROM {one}) SELECT (SELECT count(*) FROM c WHERE HIGH), "
        "(SELECT sum(id) FROM c WHERE minus(a, b) < -60)",
        "WITH RECURSIVE r AS (SELECT id, a FROM {one} WHERE HIGH UNION ALL SELECT id - 1, a FROM r WHERE id > 390) "
        "SELECT count(*), sum(id) FROM r",
    ),
    *_shapes(
        0,
        "SELECT id FROM (SELECT * FROM {one} LIMIT 400) WHERE HIGH",
        "SELECT id FROM (SELECT * FROM {one} ORDER BY id LIMIT 60) WHERE minus(a, 0) > 40",
        "SELECT id FROM (SELECT *, count(*) OVER () AS n_rows FROM {one}) WHERE HIGH AND n_rows = 400",
        "SELECT id FROM (SELECT DISTINCT ON (s) * FROM {one} ORDER BY s, id) WHERE minus(a, 0) > 1",
        "SELECT s, max(id) FROM {one} GROUP BY s HAVING minus(max(a), 0) > 398",
        "SELECT a, b FROM {one} GROUP BY GROUPING SETS ((a, b), (a)) HAVING HIGH",
        "SELECT x FROM (SELECT unnest([a, a + 1]) AS x, b FROM {one}) WHERE minus(x, b) > 370",
        "SELECT count(*) FROM (FROM {one} USING SAMPLE reservoir(100 ROWS) REPEATABLE (42)) WHERE minus(a, 0) > 100",
        "SELECT count(*) FROM {one} TABLESAMPLE reservoir(100 ROWS) REPEATABLE (42) WHERE minus(a, 0) > 100",
        "WITH c AS MATERIALIZED (FROM {one}) SELECT (SELECT count(*) FROM c WHERE HIGH), count(*) FROM c",
        "WITH c AS NOT MATERIALIZED (FROM {one}) SELECT (SELECT count(*) FROM c WHERE HIGH), count(*) FROM c",
        "SELECT id, row_number() OVER (ORDER BY id) AS r FROM {one} QUALIFY minus(a, r) > -2",
        "SELECT * FROM {one} WHERE id IN (SELECT max(id) FROM {one} WHERE minus(a, b) > -1000)",
    ),
    *_shapes(
        None,
        "SELECT i FROM named_view WHERE minus(u, v) > 370",
        "SELECT id FROM other.far_view WHERE HIGH",
        "FROM rows_above(370)",
        "SELECT * REPLACE (b AS a, a AS b) FROM {one} WHERE HIGH",
        "PIVOT (SELECT s, id FROM {one} WHERE HIGH) ON s USING count(*)",
        "SELECT name, count(*) FROM (UNPIVOT (SELECT id, a, b FROM {one}) ON a, b INTO NAME name VALUE v) "
        "WHERE minus(v, 0) > 370 GROUP BY name",
        "SUMMARIZE SELECT id FROM {one} WHERE HIGH",
        "DESCRIBE SELECT id FROM {one} WHERE HIGH",
        "SELECT id FROM {one} WHERE HIGH LIMIT (SELECT 3)",
        "SELECT list(id ORDER BY id) FILTER (minus(a, b) > 380) FROM {one} WHERE HIGH",
    ),
]

JOINS = [
    *_shapes(
        7,
        "SELECT t.id, z FROM {one} t JOIN small s ON t.id = s.id WHERE minus(t.a, t.b) > 370",
        "SELECT t.id, z FROM small s JOIN {one} t USING (id) WHERE minus(t.a, t.b) > 370",
        "SELECT id, z FROM {one} NATURAL JOIN small WHERE HIGH",
        "SELECT t.id, z FROM {one} t, small s WHERE t.id = s.id AND minus(t.a, t.b) > 370",
        "SELECT t.id, z FROM {one} t JOIN small s ON t.id = s.id AND minus(t.a, t.b) > 370",
        "SELECT t.id, z FROM {one} t LEFT JOIN small s ON t.id = s.id WHERE minus(t.a, t.b) > 370",
        "SELECT t.id, z FROM small s LEFT JOIN {one} t ON t.id = s.id WHERE minus(t.a, t.b) > 370",
        "SELECT t.id, z FROM small s RIGHT JOIN {one} t ON t.id = s.id WHERE minus(t.a, t.b) > 370",
        "SELECT t.id FROM {one} t SEMI JOIN small s ON t.id = s.id WHERE minus(t.a, t.b) > 370",
        "SELECT t.id FROM {one} t ANTI JOIN small s ON t.id = s.id WHERE minus(t.a, t.b) > 370",
        "SELECT t.id, u.id FROM {one} t ASOF JOIN {one} u ON t.id >= u.id WHERE minus(t.a, t.b) > 370",
        "SELECT t.id, u.id FROM {one} t ASOF LEFT JOIN small u ON t.id >= u.id + 5 WHERE minus(t.a, t.b) > 370",
        "SELECT t.id, u.s FROM {one} t JOIN {one} u ON t.id = u.id + 1 WHERE minus(t.a, t.b) > 370",
        "SELECT s.id, u.id FROM small s, LATERAL (FROM {one} t WHERE t.id = s.id AND minus(t.a, t.b) > 370) u",
        "SELECT t.id, (SELECT z FROM small s WHERE s.id = t.id) FROM {one} t WHERE minus(t.a, t.b) > 370",
        "SELECT t.id FROM {one} t WHERE minus(t.a, t.b) > 370 AND id = (SELECT max(id) FROM small s WHERE s.id = t.id)",
        "SELECT t.id, v.x FROM {one} t JOIN plain_view v USING (id) WHERE minus(t.a, t.b) > 370",
    ),
    *_shapes(
        14,
        "SELECT t.id FROM {one} t JOIN {one} u ON t.id = u.id WHERE minus(t.a, t.b) > 370 AND minus(u.a, u.b) > 380",
    ),
    *_shapes(
        None,  # an outer join's own condition is only pushed to the side that need not be complete
        "SELECT t.id, s.id FROM small s LEFT JOIN {one} t ON t.id = s.id AND minus(t.a, t.b) > 370",
        "SELECT t.id, s.id FROM {one} t RIGHT JOIN small s ON t.id = s.id AND minus(t.a, t.b) > 370",
        "SELECT t.id, s.id FROM {one} t FULL JOIN small s ON t.id = s.id WHERE minus(t.a, t.b) > 370",
        "SELECT s.id FROM small s ANTI JOIN {one} t ON t.id = s.id AND minus(t.a, t.b) > 370",
        "SELECT s.id FROM small s SEMI JOIN {one} t ON t.id = s.id AND minus(t.a, t.b) > 370",
    ),
    *_shapes(
        0,
        "SELECT t.id, s.id FROM {one} t LEFT JOIN small s ON t.id = s.id AND minus(t.a, t.b) > 370",
        "SELECT t.id, s.id FROM {one} t LEFT JOIN (FROM small LIMIT 2) s ON minus(t.a, t.b) > 370",
        "SELECT t.id, s.id FROM small s RIGHT JOIN {one} t ON t.id = s.id AND minus(t.a, t.b) > 370",
        "SELECT t.id, s.id FROM {one} t FULL JOIN small s ON t.id = s.id AND minus(t.a, t.b) > 370",
        "SELECT t.id FROM {one} t ANTI JOIN small s ON t.id = s.id AND minus(t.a, t.b) > 370",
        "SELECT s.id, t.id FROM small s LEFT JOIN {one} t ON t.id = s.id WHERE minus(t.a, t.b) > 370 OR t.id IS NULL",
        "SELECT s.id FROM small s LEFT JOIN {one} t ON t.id = s.id WHERE NOT coalesce(minus(t.a, t.b) > 370, FALSE)",
        "SELECT s.id, t.id FROM small s POSITIONAL JOIN {one} t WHERE minus(t.a, t.b) > 370",
        "SELECT t.id, u.id FROM {one} t ASOF JOIN {one} u ON t.id >= u.id WHERE minus(u.a, 0) < 100",
        "SELECT t.id FROM {one} t JOIN small s ON t.id = s.id WHERE minus(t.a, s.z) > 370",
        "SELECT t.id FROM {one} t JOIN {one} u ON t.id = u.id WHERE minus(t.a, u.b) > 370",
        "SELECT t.id, minus(t.a, t.b) > 370 FROM {one} t",
        "SELECT count(*) FILTER (minus(a, b) > 370), count(*) FROM {one}",
    ),
]

SHAPES = [*FILES, *CONDITIONS, *WHOLE_QUERIES, *JOINS]
