"""The metadata adviser: which pairs, boxes and blocks are worth their bytes, estimated on a sample of row groups."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from skipml.errors import EnrichmentError, SchemaError
from skipml.gains import Candidate, Choice, Search, Space
from skipml.identity import Path, expand
from skipml.metadata import hulls
from skipml.probes import PROBED_WAY, filters_of, probe_models
from skipml.samples import SAMPLE_ROWS, Sample, read_sample
from skipml.scores import Model

Pair = tuple[str, str]

ROW_GROUPS = 8
_BOXES = (4, 16, 64, 256)
_RUNS = (2, 4, 8, 16)
_LEAST_CUT = 0.05
"""The share of its box that a hull cuts off; hulls of independent columns cut off less, the more rows there are."""
_MOST_PAIRS = 12
_NETWORKS = 4
_FEW = (0.001,)
"""Selectivities for `choose_pairs`, which has to be quick."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to enrich with, and what that is expected to gain on filters of the models.

    `steps` are what was chosen, in order; `others` what was not, best first, as it looked when last tried. Shares are
    of the `skippable` pairs of a sampled row group and a filter.
    """

    paths: tuple[str, ...]
    columns: tuple[str, ...]
    choice: Choice
    block_rows: int | None
    models: tuple[Model, ...]
    """Those whose score maps are to be stored."""
    base: float
    """The share skipped with exact limits and NaN counts alone."""
    steps: tuple[Candidate, ...]
    others: tuple[Candidate, ...]
    row_groups: int
    filters: int
    skippable: int
    probes: bool
    """Whether sums, differences and random networks stood in for models."""

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs of columns that get a hull."""
        return self.choice.pairs

    @property
    def hull_bytes(self) -> int:
        """The bytes of each hull."""
        return self.choice.hull_bytes

    @property
    def boxes(self) -> int:
        """The boxes over all columns of a row group."""
        return self.choice.boxes

    @property
    def score_maps(self) -> bool:
        """Whether to store limits of the models' scores."""
        return self.choice.score_maps

    @property
    def n_bytes(self) -> int:
        """Bytes per row group beside the limits."""
        return sum(step.n_bytes for step in self.steps)

    @property
    def skipped(self) -> float:
        """The share skipped with all of it."""
        return self.steps[-1].after if self.steps else self.base

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of `skipml.enrich` beside paths and columns."""
        found: dict[str, Any] = {"pairs": list(self.pairs), "hull_bytes": self.hull_bytes, "boxes": self.boxes}
        if self.block_rows is not None:
            found["block_rows"] = self.block_rows
        if self.models:
            found["models"] = list(self.models)
        return found

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""

        def plain(candidate: Candidate) -> dict[str, Any]:
            return {**asdict(candidate), "gain": candidate.gain, "gain_per_byte": candidate.gain_per_byte}

        return {
            "columns": list(self.columns),
            "pairs": [list(pair) for pair in self.pairs],
            "hull_bytes": self.hull_bytes,
            "boxes": self.boxes,
            "block_rows": self.block_rows,
            "score_maps": self.score_maps,
            "bytes_per_row_group": self.n_bytes,
            "base": self.base,
            "skipped": self.skipped,
            "steps": [plain(step) for step in self.steps],
            "others": [plain(other) for other in self.others],
            **{name: getattr(self, name) for name in ("row_groups", "filters", "skippable", "probes")},
        }

    def __str__(self) -> str:
        whose = "sums, differences and random networks" if self.probes else "the models"
        lines = [
            f"Sample: {self.row_groups} row groups, {self.filters} filters on {whose}; "
            f"{self.skippable:,} times no row passes.",
            f"Limits alone skip {self.base:.1%} of these, with {self.n_bytes} bytes more per row group "
            f"{self.skipped:.1%}.",
        ]
        if not self.skippable:
            lines[1:] = ["No metadata can help where every row group holds rows that pass: see skipml.advise."]
        return "\n".join([*lines, *self._table(), self._advice()])

    def _table(self) -> list[str]:
        rows = [("candidate", "bytes", "skipped", "then", "gain per byte", "")]
        rows += [
            (c.what, str(c.n_bytes), f"{c.before:.1%}", f"{c.after:.1%}", f"{c.gain_per_byte:+.2%}", chosen)
            for chosen, found in (("chosen", self.steps), ("", self.others))
            for c in found
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        aligned = [
            (
                row[0].ljust(widths[0]),
                *(cell.rjust(w) for cell, w in zip(row[1:-1], widths[1:-1], strict=True)),
                row[-1],
            )
            for row in rows
        ]
        return ["  ".join(row).rstrip() for row in aligned] if len(rows) > 1 else []

    def _advice(self) -> str:
        """The call that does it, and the command unless that needs models."""
        settings = {name: value for name, value in self.settings.items() if name != "models"}
        if not self.pairs:
            del settings["hull_bytes"]
        if not self.boxes:
            del settings["boxes"]
        arguments = [f"{name}={value!r}" for name, value in {"columns": list(self.columns), **settings}.items()]
        paths = repr(self.paths[0] if len(self.paths) == 1 else list(self.paths))
        call = f"skipml.enrich({', '.join([paths, *arguments, *(['models=models'] if self.models else [])])})"
        if self.models:
            return call
        settings["pairs"] = ",".join(":".join(pair) for pair in self.pairs) or "none"
        options = {"columns": ",".join(self.columns), **settings}
        words = [*self.paths, *(w for n, v in options.items() for w in (f"--{n.replace('_', '-')}", str(v)))]
        return f"{call}\nskipml enrich {shlex.join(words)}"


def recommend(
    paths: Path | Sequence[Path],
    columns: Sequence[str] | None = None,
    *,
    models: Sequence[Model] = (),
    bytes_per_row_group: int = 512,
    row_group_sample: int = ROW_GROUPS,
    rows_per_row_group: int = SAMPLE_ROWS,
    progress: Callable[[float], None] | None = None,
) -> Recommendation:
    """Choose what `enrich` is to store in at most `bytes_per_row_group` beside the limits of the columns.

    `columns` are those of the models by default, or all that can be inputs. Filters are thresholds on the scores of the
    models, or of probes over the columns (`skipml.probes`) if there are none. `progress` is called with the share that
    is done. Raises FooterError for files that cannot be read, SchemaError for columns that are no model inputs,
    EnrichmentError for everything else.
    """
    if isinstance(columns, str):
        raise EnrichmentError(f"columns are a list of names, not the text {columns!r}: write [{columns!r}]")
    if bytes_per_row_group < 0 or row_group_sample < 1 or rows_per_row_group < 1:
        raise EnrichmentError(
            "bytes_per_row_group is at least 0, row_group_sample and rows_per_row_group are at least 1"
        )
    if isinstance(models, Model) or not all(isinstance(model, Model) for model in models):
        raise EnrichmentError("models are a list of skipml.Model: load them with Model.load or Model.from_torch")
    tell = progress or (lambda share: None)
    files = expand(paths)
    inputs = list(dict.fromkeys(name for model in models for name in model.columns))
    sample = read_sample(files, (inputs or None) if columns is None else columns, row_group_sample, rows_per_row_group)
    if not sample.columns:
        raise SchemaError(f"{files[0]}: no column can be a model input; numbers, dates and times can")
    known = {name.lower() for name in sample.columns}
    missing = [name for name in inputs if name.lower() not in known]
    if missing:
        raise SchemaError(f"a model reads the column {missing[0]!r}, which is not among {', '.join(sample.columns)}")
    pairs = _correlated(sample)
    if models:
        filters = filters_of(models, sample)
    else:
        filters = filters_of(probe_models(sample, pairs, _NETWORKS), sample, way=PROBED_WAY)
    search = Search(sample, filters, Space(pairs, hulls.SIZES, _BOXES, _RUNS, len(models)), bytes_per_row_group)
    search.run(lambda share: tell(0.95 * share))
    tell(1.0)
    choice = search.choice
    return Recommendation(
        paths=tuple(os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)),
        columns=sample.columns,
        choice=choice,
        block_rows=math.ceil(int(sample.n_rows.max()) / choice.runs) if choice.runs > 1 else None,
        models=tuple(models) if choice.score_maps else (),
        base=search.base,
        steps=tuple(search.steps),
        others=tuple(search.others),
        row_groups=len(sample),
        filters=len(filters),
        skippable=sum(int(f.skippable.sum()) for f in filters),
        probes=not models,
    )


def choose_pairs(
    sample: Sample, *, models: Sequence[Model] = (), hull_bytes: int = 45
) -> tuple[tuple[Pair, ...], tuple[float, ...]]:
    """The pairs of the sample's columns whose hulls are worth storing, best first, and what each gains: the share of
    the skippable pairs of a row group and a filter that is skipped because of it.
    """
    pairs = _correlated(sample, hull_bytes)
    if not pairs:
        return (), ()
    if models:
        filters = filters_of(models, sample)
    else:
        filters = filters_of(probe_models(sample, pairs, 0), sample, selectivities=_FEW, way=PROBED_WAY)
    search = Search(sample, filters, Space(pairs, (hull_bytes,)), _MOST_PAIRS * hull_bytes)
    search.run(lambda share: None)
    return search.choice.pairs, tuple(step.gain for step in search.steps)


def _correlated(sample: Sample, size: int = hulls.SIZES[-1]) -> tuple[Pair, ...]:
    """The pairs whose hulls cut most off their boxes."""
    pairs = sorted(combinations(sample.columns, 2), key=lambda pair: -sample.corners_cut(pair))
    cut = {pair: sample.share_cut(pair, size) for pair in pairs[: 2 * _MOST_PAIRS]}
    found = sorted((pair for pair in cut if cut[pair] >= _LEAST_CUT), key=lambda pair: -cut[pair])
    return tuple(found[:_MOST_PAIRS])
