"""A picture of one row group over two columns: its rows, what footers and metadata know of them, and where a model's
score passes a limit.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skipml.bounds.budget import Budget
from skipml.decisions import DECISION_NAMES, EVALUATE, prune
from skipml.errors import FileChangedError, FooterError, PredicateError, SchemaError, SkipmlError
from skipml.features import model_inputs
from skipml.footers import Footers, read_footers
from skipml.identity import Path, expand, identity
from skipml.metadata import hulls
from skipml.metadata.loading import load
from skipml.metadata.merging import per_row_group
from skipml.metadata.refine import Refined, refine
from skipml.regions import from_footers, from_refined
from skipml.scores import Model

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_POINTS, _BOX, _HULL, _BOXES, _PASSES = "#999999", "#0072b2", "#d55e00", "#009e73", "#f0e442"
_MOST_POINTS = 20_000
_GRID = 300
_MARGIN = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What footers alone, and with metadata, know of the N row groups of a file; `hulls` [N] are the corners [K, 2] of
    the stored polygons over `pair`, None where there is none.
    """

    path: str
    pair: tuple[str, str]
    footers: Footers
    refined: Refined
    hulls: tuple[Floats | None, ...]
    is_finer: bool
    """Whether there is metadata of parts of row groups."""

    def limits(self, group: int) -> tuple[Floats, Floats]:
        """Of the pair in one row group, [2] each; infinite where unknown."""
        stats = [self.refined.footers.columns[name] for name in self.pair]
        return np.array([column.lower[group] for column in stats]), np.array([column.upper[group] for column in stats])

    def boxes(self, group: int) -> tuple[Floats, Floats]:
        """The stored boxes of one row group projected on the pair, corners [M, 2]."""
        boxes = self.refined.boxes
        if boxes is None or not {*self.pair} & {*boxes.columns}:
            return np.zeros((0, 2)), np.zeros((0, 2))
        regions = from_refined(self.refined, self.pair).take(self.only(group))
        return regions.lower, regions.upper

    def only(self, group: int) -> Bools:
        """The mask [N] of one row group."""
        return np.asarray(np.arange(len(self.footers)) == group)

    def label(self, axis: int) -> str:
        """The name of a column of the pair, with the unit where it is not the column's own."""
        name = self.pair[axis]
        return f"{name} (seconds)" if self.footers.columns[name].sql_type.startswith(("DATE", "TIME")) else name


def plot_row_group(
    path: Path,
    pair: Sequence[str],
    *,
    row_group: int | None = None,
    model: Model | None = None,
    limit: float | None = None,
    root: Path | None = None,
) -> Figure:
    """Draw one row group of a Parquet file over a pair of columns: rows, min-max box, stored hull and boxes, and with a
    model where its score passes the limit and what is decided about the row group.

    `pair` are two model inputs, in the units that models see (dates and times in seconds); `row_group` is counted from
    0, by default it is the one whose hull cuts most off its box. Rows without a finite number in both columns are left
    out, of more than 20,000 a sample is drawn. The predicate is `model > limit`; its inputs outside the pair are held
    at their medians in the row group for the boundary, not for the decisions, which are those of `skipml.plan` for this
    row group. `root` is where enrichment has written. Raises SchemaError for columns that are missing or no model
    inputs, FooterError for a file or row group that cannot be read, PredicateError for a model without a limit or with
    several outputs, FileChangedError for a file rewritten meanwhile, SkipmlError without matplotlib.
    """
    if (model is None) != (limit is None):
        raise PredicateError("a decision boundary needs both: a model and a limit for its score")
    known, model = _read_known(path, pair, model, root)
    group = _chosen(known, row_group)
    values, number = _read_rows(known, model, group)
    points = values[number[:, :2].all(axis=1), :2]
    figure, axes = _canvas()
    title = [f"{os.path.basename(known.path)}, row group {group}: {known.footers.n_rows[group]:,} rows"]
    artists = _draw_points(axes, points)
    artists += _draw_box(axes, known.limits(group))
    stored = [*_draw_hull(axes, known.hulls[group]), *_draw_boxes(axes, *known.boxes(group))]
    if not stored:
        title.append("no hull or boxes of this pair are stored for the row group")
    if known.is_finer:
        title.append("metadata of finer blocks is not drawn")
    artists += stored
    view = _set_view(axes, np.stack(known.limits(group)), points)
    if model is not None and limit is not None:
        medians = _medians(values, number)
        title += [*_decisions(known, model, limit, group), *_held(known, model, medians)]
        artists += _draw_scores(axes, *_scores(known, model, view, medians), limit)
    axes.set(title="\n".join(title), xlabel=known.label(0), ylabel=known.label(1))
    axes.title.set_fontsize(10)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_parse_math(False)  # names may hold dollar signs
    figure.legend(handles=artists, loc="outside lower center", ncols=3, frameon=False)
    return figure


def save(figure: Figure, target: Path) -> None:
    """Write a picture in the format that the target's suffix names; raises SkipmlError where that fails."""
    try:
        figure.savefig(target, dpi=150)
    except (OSError, ValueError) as error:
        raise SkipmlError(f"the picture {os.fspath(target)} cannot be written: {error}") from error


def _canvas() -> tuple[Figure, Axes]:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise SkipmlError("a picture needs matplotlib: pip install 'skipml[plot]'") from None
    figure = Figure(figsize=(8, 6), layout="constrained")
    return figure, figure.add_subplot()


def _read_known(path: Path, pair: Sequence[str], model: Model | None, root: Path | None) -> tuple[_Known, Model | None]:
    """What is known of the file, and the model with its columns as the file spells them."""
    files = expand(path)
    if len(files) > 1:
        raise FooterError(f"a picture shows one file, and {os.fspath(path)} means {len(files)}; choose one of them")
    read_footers(files, [], strict=True)  # Arrow ends the process on encrypted columns, so our own reader looks first
    names = _own_names(files[0], [*pair, *(model.columns if model is not None else ())])
    if len(pair) != 2 or names[0] == names[1]:
        raise SchemaError(f"a picture has two different columns, as in a,b; given were {', '.join(pair)}")
    footers = read_footers(files, names, strict=True)
    found = refine(footers, root)
    refined = found.row_groups
    polygons = _polygons(refined, (names[0], names[1]), root)
    known = _Known(files[0], (names[0], names[1]), footers, refined, polygons, found is not refined)
    return known, None if model is None else replace(model, columns=names[2:])


def _own_names(path: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names as the file spells them; raises SchemaError for one that is no model input."""
    schema = pq.read_schema(path)
    spelled = {name.lower(): name for name in schema.names} | {name: name for name in schema.names}
    own = tuple(spelled.get(name, spelled.get(name.lower(), name)) for name in names)
    try:
        model_inputs(schema.empty_table(), own)
    except SchemaError as error:
        raise SchemaError(f"{path}: {error}") from error
    return own


def _polygons(refined: Refined, names: tuple[str, str], root: Path | None) -> tuple[Floats | None, ...]:
    """The corners [K, 2] of the stored hull of each row group, None where there is none."""
    footers = refined.footers
    hull = next((hull for hull in refined.hulls if {*hull.columns} == {*names}), None)
    loaded = load(footers.files[0], root)
    if hull is None or loaded.metadata is None or loaded.identity != footers.identities[0]:
        return (None,) * len(footers)
    wanted = {name.lower() for name in names}
    pairs = per_row_group(loaded.metadata).pairs
    stored = next(pair for pair in pairs if {name.lower() for name in pair.columns} == wanted)
    usable = np.isfinite(np.concatenate([hull.lower, hull.upper], axis=1)).all(axis=1).tolist()
    order = [hull.columns.index(name) for name in names]

    def polygon(i: int) -> Floats:
        place: Floats = hull.lower[i] + hulls.vertices(stored.hulls[i]) * (hull.upper[i] - hull.lower[i])
        return place[:, order]

    return tuple(polygon(i) if usable[i] else None for i in range(len(footers)))


def _chosen(known: _Known, wanted: int | None) -> int:
    """The number of the row group to draw; raises FooterError where the file has no such one."""
    count = len(known.footers)
    if wanted is None and count:
        return int(np.argmax([_share_cut(polygon) for polygon in known.hulls]))
    if wanted is None or not 0 <= wanted < count:
        which = "no row groups" if wanted is None else f"no row group {wanted}"
        raise FooterError(f"{known.path} has {which} to draw: it has {count}, counted from 0")
    return wanted


def _share_cut(polygon: Floats | None) -> float:
    """The share of its own bounding box outside a polygon."""
    if polygon is None:
        return 0.0
    width = np.ptp(polygon, axis=0)
    x, y = ((polygon - polygon.min(axis=0)) / np.where(width > 0, width, 1.0)).T
    return 1.0 - 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) if (width > 0).all() else 0.0


def _read_rows(known: _Known, model: Model | None, group: int) -> tuple[Floats, Bools]:
    """The pair and the model's inputs of each row, and where they are finite numbers, [n, 2 + d] both."""
    names = [*known.pair, *(model.columns if model is not None else ())]
    with pq.ParquetFile(known.path) as file:
        values, null = model_inputs(file.read_row_group(group, columns=list(dict.fromkeys(names))), names)
    if identity(known.path) != known.footers.identities[0]:
        raise FileChangedError(f"{known.path} was rewritten while it was drawn; draw it again")
    return values, np.isfinite(values) & ~null


def _medians(values: Floats, number: Bools) -> Floats:
    """Of the model's inputs [d]; NaN, which no score passes, for one without a number."""
    inputs = [values[number[:, i], i] for i in range(2, values.shape[1])]
    return np.array([np.median(column) if len(column) else np.nan for column in inputs])


def _draw_points(axes: Axes, points: Floats) -> list[Artist]:
    from matplotlib.lines import Line2D

    label = f"{len(points):,} rows"
    if len(points) > _MOST_POINTS:
        points = np.random.default_rng(0).choice(points, _MOST_POINTS, replace=False)
        label = f"{_MOST_POINTS:,} of {label}"
    opacity = float(np.clip(3_000 / max(len(points), 1), 0.2, 0.7))
    axes.scatter(points[:, 0], points[:, 1], s=6, color=_POINTS, alpha=opacity, linewidths=0, zorder=2)
    return [Line2D([], [], color=_POINTS, marker="o", markersize=4, linestyle="", label=label)]


def _draw_box(axes: Axes, limits: tuple[Floats, Floats]) -> list[Artist]:
    return _rectangles(axes, *(side[None] for side in limits), label="min-max box", color=_BOX, linewidth=1.8, zorder=4)


def _draw_boxes(axes: Axes, lower: Floats, upper: Floats) -> list[Artist]:
    label = f"{len(lower)} stored box{'es' if len(lower) > 1 else ''}"
    return _rectangles(axes, lower, upper, label=label, color=_BOXES, linewidth=0.9, zorder=3)


def _draw_hull(axes: Axes, polygon: Floats | None) -> list[Artist]:
    from matplotlib.patches import Polygon

    if polygon is None:
        return []
    return [axes.add_patch(Polygon(polygon, fill=False, color=_HULL, linewidth=1.8, label="stored hull", zorder=5))]


def _rectangles(axes: Axes, lower: Floats, upper: Floats, **style: Any) -> list[Artist]:
    """One patch for each finite box, corners [M, 2]; the first one stands for all in the legend."""
    from matplotlib.patches import Rectangle

    finite = (np.isfinite(lower) & np.isfinite(upper)).all(axis=1)
    corners = zip(lower[finite].tolist(), upper[finite].tolist(), strict=True)
    patches = [Rectangle((x, y), right - x, top - y, fill=False, **style) for (x, y), (right, top) in corners]
    for patch in patches:
        axes.add_patch(patch)
    return [*patches[:1]]


def _set_view(axes: Axes, limits: Floats, points: Floats) -> Floats:
    """Show the box of the limits [2, 2], or of the points where it is unknown, with a margin; returns its corners."""
    seen = np.concatenate([points, limits])
    seen = seen[np.isfinite(seen).all(axis=1)] if len(points) or np.isfinite(limits).all() else np.eye(2)
    low, high = seen.min(axis=0), seen.max(axis=0)
    margin = np.where(high > low, _MARGIN * (high - low), 0.5 + _MARGIN * np.abs(high))
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
    return np.stack([low - margin, high + margin])


def _decisions(known: _Known, model: Model, limit: float, group: int) -> list[str]:
    """What `skipml.plan` would decide about the row group, and what its footer lacks, as lines of the title."""
    predicate = model > limit
    regions = from_footers(known.footers, predicate.inputs), from_refined(known.refined, predicate.inputs)
    budget = Budget(predicate.seconds_per_row)
    found = [int(prune(predicate, side.take(known.only(group)), budget).decision[0]) for side in regions]
    alone, together = (DECISION_NAMES[decision] for decision in found)
    reasons = [(name, known.footers.columns[name].reason[group]) for name in predicate.inputs]
    lacking = [f"min-max of {name}: {reason}" for name, reason in reasons if reason and found[0] == EVALUATE]
    return [f"score > {limit:g}: {alone} by min-max alone, {together} with the metadata", *lacking[:1]]


def _held(known: _Known, model: Model, medians: Floats) -> list[str]:
    """Where the inputs outside the pair are held for the boundary, as a line of the title."""
    places = dict(zip(model.columns, medians.tolist(), strict=True))
    held = ", ".join(f"{name} = {value:g}" for name, value in places.items() if name not in known.pair)
    return [textwrap.shorten(f"boundary at the median of the rest: {held}", 100)] if held else []


def _scores(known: _Known, model: Model, view: Floats, medians: Floats) -> tuple[Floats, Floats, Floats]:
    """The score [n, n] over the view [2, 2], its other inputs at their medians [d], and the places x, y [n]."""
    x, y = np.linspace(view[0], view[1], _GRID).T
    places = dict(zip(known.pair, np.meshgrid(x, y), strict=True))
    inputs = [places.get(name, np.full((_GRID, _GRID), medians[i])).ravel() for i, name in enumerate(model.columns)]
    score = model.function.forward(np.stack(inputs, axis=1)).astype(np.float64)
    return x, y, score.reshape(_GRID, _GRID)


def _draw_scores(axes: Axes, x: Floats, y: Floats, score: Floats, limit: float) -> list[Artist]:
    """Fill where the score passes the limit and draw where it equals it; what is not in view gets no legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    score = np.where(np.isfinite(score), score, np.nan)
    passes: Bools = score > limit
    artists: list[Artist] = []
    if passes.any():
        axes.contourf(x, y, score, levels=[limit, np.nanmax(score)], colors=[_PASSES], alpha=0.25, zorder=1)
        artists.append(Patch(color=_PASSES, alpha=0.25, label=f"score > {limit:g}"))
    if passes.any() and not passes.all():
        axes.contour(x, y, score, levels=[limit], colors="black", linewidths=1.2, zorder=6)
        artists.append(Line2D([], [], color="black", linewidth=1.2, label=f"score = {limit:g}"))
    return artists
