"""The tables of TPC-H that are filtered, and the models over them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.tpc.suite import ModelSpec, Suite, TableSpec

_EARNED = "(l_extendedprice * (1 - l_discount))"

SUITE = Suite(
    name="tpch",
    folder=Path(__file__).parent,
    tables=(
        TableSpec("lineitem", ("l_orderkey", "l_linenumber"), "l_extendedprice"),
        TableSpec("orders", ("o_orderkey",), "o_totalprice"),
        TableSpec("partsupp", ("ps_partkey", "ps_suppkey"), "ps_supplycost"),
    ),
    representative="charge",
    models=(
        # What a line is charged, without knowing its tax.
        ModelSpec(
            name="charge",
            table="lineitem",
            columns=("l_quantity", "l_extendedprice", "l_discount"),
            target="l_extendedprice * (1 - l_discount) * (1 + l_tax)",
        ),
        # What the discount on a line costs, the revenue that query 6 asks for.
        ModelSpec(
            name="given_away",
            table="lineitem",
            columns=("l_extendedprice", "l_discount"),
            target="l_extendedprice * l_discount",
        ),
        # The segment of a line by what it earns: small, medium, large, key.
        ModelSpec(
            name="segment",
            table="lineitem",
            columns=("l_quantity", "l_extendedprice", "l_discount"),
            target=f"({_EARNED} >= 10000)::INT + ({_EARNED} >= 50000)::INT + ({_EARNED} >= 85000)::INT",
            classes=4,
        ),
        # What of an order may still be cancelled.
        ModelSpec(
            name="exposure",
            table="orders",
            columns=("o_totalprice", "o_orderdate"),
            target="CASE o_orderstatus WHEN 'F' THEN 0 WHEN 'P' THEN o_totalprice / 2 ELSE o_totalprice END",
        ),
        # Whether an order is finished, open, or partly shipped.
        ModelSpec(
            name="status",
            table="orders",
            columns=("o_totalprice", "o_orderdate"),
            target="CASE o_orderstatus WHEN 'F' THEN 0 WHEN 'O' THEN 1 ELSE 2 END",
            classes=3,
        ),
        # What the stock of a part at a supplier is worth, as query 11 has it.
        ModelSpec(
            name="stock_value",
            table="partsupp",
            columns=("ps_availqty", "ps_supplycost"),
            target="ps_availqty * ps_supplycost",
        ),
    ),
)
