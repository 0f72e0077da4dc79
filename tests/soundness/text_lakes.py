"""Files of nasty texts, each row group with some of them, and pipelines that tell them apart."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

import skipml
from tests.writers import write_duckdb, write_fastparquet, write_polars, write_pyarrow

Rng = np.random.Generator

_LONG = "long " * 80
WORDS = ("", "\0", "AIR", "AIR\0", "AIR ", "\u00e9", "e\u0301", _LONG + "a", _LONG + "b", "zz", "\U0001f600")
"""Known to the pipelines: alike but for what statistics cut off, a form of Unicode, a byte that ends texts of C."""
UNKNOWN = ("A", "QQ", _LONG + "ab", "\U0001f601")


def _pyarrow(**options: Any) -> Callable[[pa.Table, Path, int], None]:
    return lambda rows, path, group: write_pyarrow(rows, path, group, **options)


def _coded(rows: pa.Table, path: Path, group: int) -> None:
    """As Arrow's dictionaries, which come back as such, with a word that no row has."""
    coded = rows["s"].combine_chunks().dictionary_encode()
    more = pa.concat_arrays([coded.dictionary, pa.array(["never"])])
    column = pa.DictionaryArray.from_arrays(coded.indices, more)
    write_pyarrow(rows.set_column(rows.column_names.index("s"), "s", column), path, group)


WRITERS: Mapping[str, Callable[[pa.Table, Path, int], None]] = {
    "pyarrow": _pyarrow(),
    "pyarrow, no statistics": _pyarrow(write_statistics=False),
    "pyarrow, dictionaries": _coded,
    "duckdb": write_duckdb,
    "polars": write_polars,
    "fastparquet": write_fastparquet,
}
GROUPS = 6


def rows_of(rng: Rng, writer: str) -> tuple[pa.Table, int]:
    """Row groups with some of the texts each, one of nothing but NULL, and how many rows each has."""
    size = 2048 if writer == "duckdb" else 12
    texts: list[str | None] = []
    for group in range(GROUPS):
        pool: list[str | None] = [str(w) for w in rng.choice(np.array((*WORDS, *UNKNOWN), object), 3, replace=False)]
        if group == 2:
            pool = [None]
        elif group % 2:
            pool.append(None)
        texts += [pool[int(k)] for k in rng.integers(0, len(pool), size)]
    a = rng.normal(size=GROUPS * size).round(1)
    return pa.table({"a": a, "s": pa.array(texts, pa.string())}), size


@cache
def models() -> Mapping[str, skipml.Model]:
    """To which words are columns or codes, unknown ones nothing, a code or an error, NULL a word or an error."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=220), "s": pd.Series(list(WORDS) * 20, dtype=object)})
    effect = dict(zip(WORDS, rng.permutation(len(WORDS)) - 5.0, strict=True))
    target = frame["a"] / 10 + frame["s"].map(effect)
    impute = SimpleImputer(missing_values=None, strategy="constant", fill_value="AIR")
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    encoders = {
        "columns": (OneHotEncoder(handle_unknown="ignore"), Ridge()),
        "columns, others refused": (OneHotEncoder(handle_unknown="error"), Ridge()),
        "NULL is a word": (make_pipeline(impute, OneHotEncoder(handle_unknown="ignore")), Ridge()),
        "codes": (codes, RandomForestRegressor(5, max_depth=5, random_state=0)),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = {
            name: make_pipeline(ColumnTransformer([("a", StandardScaler(), ["a"]), ("s", text, ["s"])]), last).fit(
                frame, target
            )
            for name, (text, last) in encoders.items()
        }
    return {name: skipml.Model.from_sklearn(pipeline) for name, pipeline in fitted.items()}
