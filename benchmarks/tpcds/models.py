"""The tables of TPC-DS that are filtered, and the models over them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.tpc.suite import ModelSpec, Suite, TableSpec

SUITE = Suite(
    name="tpcds",
    folder=Path(__file__).parent,
    tables=(
        TableSpec("store_sales", ("ss_item_sk", "ss_ticket_number"), "ss_net_profit"),
        TableSpec("catalog_sales", ("cs_item_sk", "cs_order_number"), "cs_net_profit"),
        TableSpec("inventory", ("inv_date_sk", "inv_item_sk", "inv_warehouse_sk"), "inv_quantity_on_hand"),
        TableSpec("store_returns", ("sr_item_sk", "sr_ticket_number"), "sr_net_loss"),
    ),
    representative="store_profit",
    models=(
        # What the store earns with a line, without knowing its coupons.
        ModelSpec(
            name="store_profit",
            table="store_sales",
            columns=("ss_quantity", "ss_wholesale_cost", "ss_sales_price"),
            target="ss_net_profit",
        ),
        # What the customer pays.
        ModelSpec(
            name="store_paid",
            table="store_sales",
            columns=("ss_quantity", "ss_sales_price"),
            target="ss_net_paid",
        ),
        # A heavy loss, a loss, a gain, a large gain.
        ModelSpec(
            name="store_outcome",
            table="store_sales",
            columns=("ss_quantity", "ss_wholesale_cost", "ss_sales_price"),
            target="(ss_net_profit >= -2000)::INT + (ss_net_profit >= 0)::INT + (ss_net_profit >= 3000)::INT",
            classes=4,
        ),
        ModelSpec(
            name="catalog_profit",
            table="catalog_sales",
            columns=("cs_quantity", "cs_wholesale_cost", "cs_sales_price"),
            target="cs_net_profit",
        ),
        # What shipping a line costs.
        ModelSpec(
            name="shipping",
            table="catalog_sales",
            columns=("cs_quantity", "cs_list_price"),
            target="cs_ext_ship_cost",
        ),
        # Stock that is held for long: pieces times the weeks up to the last inventory.
        ModelSpec(
            name="ageing",
            table="inventory",
            columns=("inv_date_sk", "inv_quantity_on_hand"),
            target="inv_quantity_on_hand * (2452635 - inv_date_sk) / 7",
        ),
        # What a returned line costs the store.
        ModelSpec(
            name="return_loss",
            table="store_returns",
            columns=("sr_return_amt", "sr_fee", "sr_return_ship_cost"),
            target="sr_net_loss",
        ),
    ),
)
