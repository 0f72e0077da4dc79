"""Random SELECTs: each shape makes rows (id, a, b, k) of one or two others, so shapes nest in any way."""

from __future__ import annotations

# ruff: noqa: E501  # a shape is a line
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tests.soundness.lakes import Rng
from tests.soundness.query_lake import FILES, TABLES

_LIMITS = (
    "60",
    "90.5",
    "-3",
    "0",
    "20.0",
    "9e1",
    "'45'::DOUBLE",
    "83::FLOAT",
    "-1",
    "'inf'::DOUBLE",
    "$limit",
    "$limit",
)
_ARGUMENTS = (
    "{t}.a",
    "{t}.a",
    "{t}.b",
    "{t}.a + 1",
    "-{t}.b",
    "abs({t}.a)",
    "{t}.a * 2 - {t}.b",
    "{t}.k",
    "{t}.id",
    "3",
)
_ODD_ARGUMENTS = (
    "coalesce({t}.a, 7)",
    "{t}.a / 3",
    "CAST({t}.a AS FLOAT)",
    "sqrt({t}.id)",
    "CASE WHEN {t}.k = 1 THEN {t}.a END",
)
_SCORES = (
    *("minus({x}, {y})",) * 5,
    *("same({x})", "multi({x}, {y})[1]", "multi({x}, {y})[3]", "CAST(minus({x}, {y}) AS DOUBLE)"),
)
_TESTS = (
    *("{s} > {l}",) * 4,
    *("{s} >= {l}", "{s} < {l}", "{s} <= {l}", "{l} < {s}", "{s} BETWEEN {l} AND 95", "{s} = 20", "{s} <> 20"),
    *("NOT {s} > {l}", "{s} IN (20, 60, 85)", "{s} IS NOT NULL", "risky({x}, {y})", "multi_class({x}, {y}) = 0"),
    *("multi_class({x}, {y}) <> 2", "{s} > {t}.k", "({s} > {l}) IS NOT TRUE", "{s} IS NULL", "{s} > (SELECT 60)"),
    *("{s} IS DISTINCT FROM 20", "coalesce({s} > {l}, TRUE)", "CASE WHEN {t}.k = 1 THEN {s} > {l} ELSE {s} < 9 END"),
)
_PLAIN = ("{t}.id % 3 = 1", "{t}.k = 2", "{t}.k IS NULL", "{t}.id > 40", "{t}.id IN (3, 50, 90)")
_ORDER = "id, a, b, k"

SHAPES: dict[str, str] = {
    "filter": "SELECT id, a, b, k FROM {0} t WHERE {c}",
    "filter of two": "SELECT id, a, b, k FROM {0} t WHERE {c} AND {d}",
    "star": "SELECT * FROM {0} t WHERE {c}",
    "computed columns": "SELECT id, b + 1 AS a, a AS b, k FROM {0} t WHERE {c}",
    "score as a column": "SELECT id, s AS a, b, k FROM (SELECT *, minus(a, b) AS s FROM {0} t) t WHERE s > {l}",
    "distinct": "SELECT DISTINCT id, a, b, k FROM {0} t WHERE {c}",
    "distinct on": f"SELECT DISTINCT ON (k) id, a, b, k FROM {{0}} t WHERE {{c}} ORDER BY k, {_ORDER}",
    "under distinct on": f"SELECT id, a, b, k FROM (SELECT DISTINCT ON (k) * FROM {{0}} ORDER BY k, {_ORDER}) t WHERE {{c}}",
    "group": "SELECT max(id) AS id, a, b, count(*) AS k FROM {0} t WHERE {c} GROUP BY a, b",
    "having": "SELECT max(id) AS id, a, b, min(k) AS k FROM {0} t GROUP BY a, b HAVING {c_of_groups}",
    "having on an aggregate": "SELECT max(id) AS id, max(a) AS a, 1 AS b, k FROM {0} t GROUP BY k HAVING minus(max(a), 1) > {l}",
    "rollup": "SELECT max(id) AS id, a, b, count(*) AS k FROM {0} t GROUP BY ROLLUP (a, b) HAVING {c_of_groups}",
    "cube": "SELECT max(id) AS id, a, b, count(*) AS k FROM {0} t WHERE {c} GROUP BY CUBE (a, b)",
    "filtered aggregate": "SELECT count(*) FILTER ({c}) AS id, 1.0 AS a, 2.0 AS b, k FROM {0} t GROUP BY k",
    "window": f"SELECT id, a, b, row_number() OVER (ORDER BY {_ORDER}) AS k FROM {{0}} t WHERE {{c}}",
    "under a window": f"SELECT id, l AS a, b, k FROM (SELECT *, lag(a) OVER (ORDER BY {_ORDER}) AS l FROM {{0}} t) t WHERE {{c}}",
    "window as an input": f"SELECT id, a, b, k FROM (SELECT *, lag(a) OVER (ORDER BY {_ORDER}) AS l FROM {{0}} t) t WHERE minus(l, b) > {{l}}",
    "qualify": f"SELECT id, a, b, k FROM {{0}} t WHERE {{c}} QUALIFY row_number() OVER (PARTITION BY k ORDER BY {_ORDER}) = 1",
    "qualify on a score": f"SELECT id, a, b, k FROM {{0}} t QUALIFY row_number() OVER (ORDER BY {_ORDER}) < 50 AND {{c}}",
    "limit": f"SELECT id, a, b, k FROM {{0}} t WHERE {{c}} ORDER BY {_ORDER} LIMIT 9 OFFSET 2",
    "under a limit": f"SELECT id, a, b, k FROM (FROM {{0}} ORDER BY {_ORDER} LIMIT 40) t WHERE {{c}}",
    "first by score": f"SELECT id, a, b, k FROM {{0}} t ORDER BY {{s}} DESC, {_ORDER} LIMIT 5",
    "last by score": f"SELECT id, a, b, k FROM {{0}} t WHERE {{c}} ORDER BY {{s}} ASC NULLS FIRST, {_ORDER} LIMIT 4 OFFSET 1",
    "scores alone": "SELECT 1 AS id, minus(a, b) AS a, 0 AS b, 0 AS k FROM {0} t ORDER BY a DESC LIMIT 6",
    "union": "SELECT * FROM {0} t WHERE {c} UNION SELECT * FROM {1} u WHERE {e}",
    "union all": "SELECT id, a, b, k FROM (FROM {0} UNION ALL FROM {1}) t WHERE {c}",
    "union by name": "SELECT id, a, b, k FROM (FROM {0} UNION ALL BY NAME SELECT k, b, a, id FROM {1}) t WHERE {c}",
    "except": "SELECT * FROM {0} t WHERE {c} EXCEPT SELECT * FROM {1} u WHERE {e}",
    "filter of except": "SELECT id, a, b, k FROM (FROM {0} EXCEPT ALL FROM {1}) t WHERE {c}",
    "intersect": "SELECT id, a, b, k FROM (FROM {0} INTERSECT FROM {1}) t WHERE {c}",
    "inner join": "SELECT t.id, t.a, u.b, t.k FROM {0} t JOIN {1} u ON t.id = u.id AND {c} WHERE {e}",
    "using": "SELECT id, t.a, u.b, t.k FROM {0} t JOIN {1} u USING (id) WHERE {c}",
    "left join": "SELECT t.id, t.a, u.b, u.k FROM {0} t LEFT JOIN {1} u ON t.id = u.id AND {e} WHERE {c}",
    "left join on both": "SELECT t.id, t.a, u.b, u.k FROM {0} t LEFT JOIN {1} u ON t.id = u.id AND {c}",
    "filter of a left join": "SELECT t.id, t.a, u.b, u.k FROM {0} t LEFT JOIN {1} u ON t.id = u.id WHERE {e}",
    "right join": "SELECT u.id, t.a, u.b, t.k FROM {0} t RIGHT JOIN {1} u ON t.id = u.id AND {c}",
    "full join": "SELECT coalesce(t.id, u.id) AS id, t.a, u.b, t.k FROM {0} t FULL JOIN {1} u ON t.id = u.id AND {c}",
    "filter of a full join": "SELECT coalesce(t.id, u.id) AS id, t.a, u.b, t.k FROM {0} t FULL JOIN {1} u ON t.id = u.id WHERE {c}",
    "semi join": "SELECT id, a, b, k FROM {0} t SEMI JOIN {1} u ON t.id = u.id AND {e} WHERE {c}",
    "anti join": "SELECT id, a, b, k FROM {0} t ANTI JOIN {1} u ON t.id = u.id AND {e}",
    "anti join on both": "SELECT id, a, b, k FROM {0} t ANTI JOIN {1} u ON t.id = u.id AND {c}",
    "cross join": "SELECT t.id, t.a, v.x AS b, t.k FROM {0} t, (VALUES (1.0), (30.0)) v(x) WHERE {c} AND minus(t.a, v.x) > {l}",
    "score of two tables": "SELECT t.id, t.a, u.b, t.k FROM {0} t JOIN {1} u ON t.id = u.id WHERE minus(t.a, u.b) > {l}",
    "asof join": "SELECT t.id, t.a, u.b, u.k FROM {0} t ASOF JOIN (SELECT id, max(a) AS a, max(b) AS b, max(k) AS k FROM {1} GROUP BY id) u ON t.id >= u.id WHERE {c}",
    "filter of an asof join": "SELECT t.id, t.a, u.b, u.k FROM {0} t ASOF LEFT JOIN (SELECT id, max(a) AS a, max(b) AS b, max(k) AS k FROM {1} GROUP BY id) u ON t.id >= u.id WHERE {e}",
    "positional join": f"SELECT t.id, t.a, u.b, u.k FROM (FROM {{0}} ORDER BY {_ORDER}) t POSITIONAL JOIN (FROM {{1}} ORDER BY {_ORDER}) u WHERE {{c}}",
    "lateral": "SELECT t.id, t.a, v.b, v.k FROM {0} t, LATERAL (SELECT b, k FROM {1} u WHERE u.id = t.id AND {e}) v WHERE {c}",
    "left lateral": "SELECT t.id, t.a, v.b, v.k FROM {0} t LEFT JOIN LATERAL (SELECT max(b) AS b, max(k) AS k FROM {1} u WHERE u.id = t.id AND {e}) v ON TRUE",
    "exists": "SELECT id, a, b, k FROM {0} t WHERE EXISTS (FROM {1} u WHERE u.id = t.id AND {e}) AND {c}",
    "not exists": "SELECT id, a, b, k FROM {0} t WHERE NOT EXISTS (FROM {1} u WHERE u.id = t.id + 1 AND {e})",
    "exists on the outside": "SELECT id, a, b, k FROM {0} t WHERE EXISTS (FROM {1} u WHERE u.id = t.id AND {c})",
    "in": "SELECT id, a, b, k FROM {0} t WHERE id IN (SELECT id FROM {1} u WHERE {e})",
    "not in": "SELECT id, a, b, k FROM {0} t WHERE id NOT IN (SELECT k FROM {1} u WHERE {e})",
    "all": "SELECT id, a, b, k FROM {0} t WHERE id > ALL (SELECT id FROM {1} u WHERE {e})",
    "scalar subquery": "SELECT id, a, (SELECT max(u.b) FROM {1} u WHERE u.id = t.id AND {e}) AS b, k FROM {0} t WHERE {c}",
    "subquery as a limit": "SELECT id, a, b, k FROM {0} t WHERE minus(a, b) >= (SELECT max(minus(u.a, u.b)) FROM {1} u WHERE u.k = 1)",
    "common table": "WITH c AS (FROM {0}) SELECT id, a, b, k FROM c t WHERE {c}",
    "common table used twice": "WITH c AS MATERIALIZED (FROM {0}) SELECT t.id, t.a, u.b, t.k FROM c t, c u WHERE t.id = u.id AND {c} AND {e}",
    "common table not materialized": "WITH c AS NOT MATERIALIZED (FROM {0}) SELECT t.id, t.a, t.b, (SELECT count(*) FROM c u WHERE {e}) AS k FROM c t WHERE {c}",
    "recursion": "WITH RECURSIVE r AS (SELECT id, a, b, k, 0 AS n FROM {0} t WHERE {c} UNION ALL SELECT id, a - 1, b, k, n + 1 FROM r WHERE n < 2) SELECT id, a, b, k FROM r t WHERE {d}",
    "recursion over files": "WITH RECURSIVE r AS (SELECT id, a, b, k FROM {0} WHERE id = 90 UNION SELECT t.id, t.a, t.b, t.k FROM {0} t JOIN r ON t.id = r.id - 1 WHERE {c}) SELECT id, a, b, k FROM r",
    "unnest": "SELECT id, a, b, unnest([k, 9]) AS k FROM {0} t WHERE {c}",
    "under unnest": "SELECT id, x AS a, b, k FROM (SELECT id, unnest([a, a + 50]) AS x, b, k FROM {0}) t WHERE minus(x, b) > {l}",
    "pivot": "SELECT id, 1.0 AS a, 2.0 AS b, \"1\" AS k FROM (PIVOT (SELECT id, coalesce(k, 0) AS k FROM {0} t WHERE {c}) ON k IN (0, 1) USING count(*))",
    "unpivot": "SELECT id, a, b, k FROM (SELECT id, v AS a, v - 1 AS b, k FROM (UNPIVOT (SELECT id, k, a, b FROM {0}) ON a, b INTO NAME n VALUE v)) t WHERE {c}",
    "sample of all": "SELECT id, a, b, k FROM (SELECT * FROM {0} USING SAMPLE 100 PERCENT (bernoulli)) t WHERE {c}",
    "condition as a column": "SELECT id, a, b, CASE WHEN {c} THEN 1 WHEN {d} THEN 2 END AS k FROM {0} t",
    "condition under NOT": "SELECT id, a, b, k FROM {0} t WHERE NOT ({c} AND {d})",
    "renamed": "SELECT i AS id, y AS a, x AS b, z AS k FROM {0} t(i, x, y, z) WHERE minus(y, x) > {l}",
    "columns": "SELECT COLUMNS('^(id|a|b|k)$') FROM {0} t WHERE {c}",
    "whole row": "SELECT t.id, (t).a AS a, b, k FROM {0} t WHERE {c}",
}  # fmt: skip


@dataclass(frozen=True)
class Select:
    """A shape with what it is made of."""

    shape: str
    template: str
    parts: tuple[Select, ...] = ()
    conditions: dict[str, str] = field(default_factory=dict)

    @property
    def sql(self) -> str:
        """The text, with files between @."""
        text = self.template
        for name, condition in self.conditions.items():
            text = text.replace("{" + name + "}", condition)
        for i, part in enumerate(self.parts):
            text = text.replace("{" + str(i) + "}", f"({part.sql})")
        return text

    def shapes(self) -> Iterator[str]:
        yield self.shape
        for part in self.parts:
            yield from part.shapes()

    def smaller(self) -> Iterator[Select]:
        """The same with something left out."""
        yield from self.parts
        for i, part in enumerate(self.parts):
            for simpler in (*part.smaller(), _ONE):
                if simpler != part:
                    yield replace(self, parts=(*self.parts[:i], simpler, *self.parts[i + 1 :]))
        for name, condition in self.conditions.items():
            table = {"e": "u", "c_of_groups": ""}.get(name, "t")
            for less in (
                ("TRUE", f"minus({table}.a, {table}.b) > 60") if table and len(name) == 1 and name in "cde" else ()
            ):
                if len(less) < len(condition):
                    yield replace(self, conditions={**self.conditions, name: less})


_ONE = Select("one", FILES["one"])


def random_select(rng: Rng, depth: int) -> Select:
    """A random query of at most so many shapes inside each other."""
    if depth == 0:
        sources = FILES if rng.random() < 0.85 else TABLES
        name = str(rng.choice(list(sources)))
        return Select(name, sources[name])
    shape = str(rng.choice(list(SHAPES)))
    template = SHAPES[shape]
    n_parts = 2 if "{1}" in template else 1
    parts = tuple(random_select(rng, int(rng.integers(depth))) for _ in range(n_parts))
    conditions = {
        "c": _condition(rng, "t"),
        "d": _condition(rng, "t"),
        "e": _condition(rng, "u"),
        "c_of_groups": _condition(rng, "").replace(".a", "a").replace(".b", "b"),
        "l": str(rng.choice(_LIMITS)),
        "s": _filled(rng, str(rng.choice(_SCORES)), "t"),
    }
    used = {name: condition for name, condition in conditions.items() if "{" + name + "}" in template}
    return Select(shape, template, parts, used)


def _condition(rng: Rng, table: str, depth: int = 2) -> str:
    if not table:  # over group keys alone
        test = str(rng.choice([test for test in _TESTS if "{t}" not in test]))
        test = test.replace("{s}", str(rng.choice(["minus(a, b)", "same(a)", "multi(b, a)[2]"])))
        return test.replace("{x}", "a").replace("{y}", "b").replace("{l}", str(rng.choice(_LIMITS)))
    if rng.random() < 0.3:  # something is skipped
        limit = str(rng.choice(["60", "85.5", "-3", "20"]))
        return f"minus({table}.a, {table}.b) {rng.choice(['>', '>=', '<'])} {limit}"
    draw = rng.random()
    if depth and draw < 0.3:
        left, right = _condition(rng, table, depth - 1), _condition(rng, table, depth - 1)
        return f"({left} {'AND' if draw < 0.18 else 'OR'} {right})"
    if draw < 0.4:
        return str(rng.choice(_PLAIN)).replace("{t}", table)
    return _filled(rng, str(rng.choice(_TESTS)), table)


def _filled(rng: Rng, text: str, table: str) -> str:
    arguments = _ARGUMENTS if rng.random() < 0.8 else _ODD_ARGUMENTS
    plain = rng.random() < 0.5
    x, y = ("{t}.a", "{t}.b") if plain else (str(rng.choice(arguments)) for _ in range(2))
    text = text.replace("{s}", str(rng.choice(_SCORES)))
    return text.replace("{x}", x).replace("{y}", y).replace("{l}", str(rng.choice(_LIMITS))).replace("{t}", table)
