"""What metadata gains on filters, per byte, and the greedy choice of it.

The measure is the share of skippable pairs of a row group and a filter that are skipped; skippable are those without a
sampled row that passes. Gains are found by pruning itself under its own cost guard, so that metadata whose use costs
too much shows no gain. What a candidate gained earlier bounds what it can still gain, and only the best is looked at
again (Minoux, Accelerated greedy algorithms, 1978).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.budget import Budget
from skipml.decisions import SKIP, prune
from skipml.metadata import boxes as boxes_of
from skipml.probes import Filter
from skipml.regions import PairHull, Regions
from skipml.samples import Sample
from skipml.summaries import box_bits

Bools = NDArray[np.bool_]
Pair = tuple[str, str]

LEAST_GAIN = 0.005
"""Less is noise on a sample."""
_LIMIT_BYTES = 16
_SCORE_MAP_BYTES = 32


@dataclass(frozen=True, slots=True)
class Choice:
    """What each row group gets beside the limits of its columns."""

    pairs: tuple[Pair, ...] = ()
    hull_bytes: int = 45
    boxes: int = 0
    runs: int = 1
    """How many blocks with limits of their own it is divided into."""
    score_maps: bool = False

    def n_bytes(self, n_columns: int, n_models: int) -> int:
        """Bytes per row group."""
        finer = self.runs * _LIMIT_BYTES * n_columns if self.runs > 1 else 0
        boxes = boxes_of.size(self.boxes, n_columns, box_bits(self.boxes))
        return len(self.pairs) * self.hull_bytes + boxes + finer + self.score_maps * _SCORE_MAP_BYTES * n_models


@dataclass(frozen=True, slots=True)
class Candidate:
    """Metadata that was looked at: its bytes per row group, and the share skipped without it and with it."""

    what: str
    n_bytes: int
    before: float
    after: float
    chosen: bool = False

    @property
    def gain(self) -> float:
        """The share of the skippable pairs that it adds."""
        return self.after - self.before

    @property
    def gain_per_byte(self) -> float:
        """The same for each byte of a row group."""
        return self.gain / self.n_bytes


@dataclass(frozen=True, slots=True)
class Space:
    """What may be chosen; `n_models` are those that can have score maps."""

    pairs: tuple[Pair, ...]
    sizes: tuple[int, ...]
    boxes: tuple[int, ...] = ()
    runs: tuple[int, ...] = ()
    n_models: int = 0

    def moves(self, now: Choice) -> dict[str, Choice]:
        """By name what may come next; all hulls have one size."""
        found: dict[str, Choice] = {}
        for size in (now.hull_bytes,) if now.pairs else sorted(self.sizes, reverse=True):
            for pair in self.pairs:
                if pair not in now.pairs:
                    found[_hull_name(pair, size)] = replace(now, pairs=(*now.pairs, pair), hull_bytes=size)
        larger = [size for size in self.sizes if now.pairs and size > now.hull_bytes]
        n = len(now.pairs)
        found |= {f"{size} bytes for {n} hull{'s' * (n > 1)}": replace(now, hull_bytes=size) for size in larger}
        found |= {f"{count} boxes": replace(now, boxes=count) for count in self.boxes if count > now.boxes}
        found |= {f"{count} blocks": replace(now, runs=count) for count in self.runs if count > now.runs}
        if self.n_models and not now.score_maps:
            found["score maps"] = replace(now, score_maps=True)
        return found


def _hull_name(pair: Pair, size: int) -> str:
    return f"hull of {pair[0]}, {pair[1]} ({size} bytes)"


class Search:
    """Greedy choice of metadata by gain per byte, within `n_bytes` per row group."""

    def __init__(self, sample: Sample, filters: Sequence[Filter], space: Space, n_bytes: int) -> None:
        self._sample, self._filters, self._space, self._left = sample, filters, space, n_bytes
        self._regions: dict[Choice, list[Regions]] = {}
        self._found: dict[tuple[Filter, Choice], Bools] = {}
        self._polygons: dict[tuple[Pair, int], PairHull] = {}
        self._skippable = sum(int(f.skippable.sum()) for f in filters)
        self._tried: dict[str, Candidate] = {}
        self.choice = Choice()
        self._skipped = [self._prune(f, self.choice) for f in filters]
        self.base = self._share(self._skipped)
        self.steps: list[Candidate] = []

    @property
    def others(self) -> list[Candidate]:
        """What was tried and can be added still, best first, as it looked when last tried."""
        moves = self._space.moves(self.choice)
        return sorted((c for what, c in self._tried.items() if what in moves), key=lambda c: -c.gain_per_byte)

    def run(self, tell: Callable[[float], None]) -> None:
        """Choose until nothing that fits gains enough; `tell` is called with the share that is done."""
        expected = 1.5 * len(self._space.moves(self.choice)) + 1
        n_tried = 0
        fresh: set[str] = set()
        while (best := self._most_promising()) is not None:
            what, choice = best
            if what in fresh:
                candidate = self._tried[what]
                self.steps.append(replace(candidate, chosen=True))
                self._left -= candidate.n_bytes
                self._skipped, self.choice = self._after(choice), choice
                fresh.clear()
            else:
                self._tried[what] = self._candidate(what, choice)
                fresh.add(what)
                n_tried += 1
                tell(min(n_tried / expected, 1.0))

    def _most_promising(self) -> tuple[str, Choice] | None:
        """What has not been tried, or else what gained most per byte when it was; None if nothing gained enough."""
        fitting = {w: c for w, c in self._space.moves(self.choice).items() if self._cost(c) <= self._left}
        new = next((w for w, c in fitting.items() if w not in self._tried and not self._is_hopeless(c)), None)
        if new is not None:
            return new, fitting[new]
        worth = [what for what in fitting if what in self._tried and self._tried[what].gain >= LEAST_GAIN]
        best = max(worth, key=lambda what: self._tried[what].gain_per_byte, default=None)
        return (best, fitting[best]) if best is not None else None

    def _is_hopeless(self, choice: Choice) -> bool:
        """Whether a larger hull of the pair that a choice adds last has gained nothing."""
        added = set(choice.pairs) - set(self.choice.pairs)
        names = [_hull_name(pair, size) for pair in added for size in self._space.sizes if size > choice.hull_bytes]
        return any(name in self._tried and self._tried[name].gain < LEAST_GAIN for name in names)

    def _cost(self, choice: Choice) -> int:
        """Bytes that it takes more than what is chosen."""
        sizes = [c.n_bytes(len(self._sample.columns), self._space.n_models) for c in (choice, self.choice)]
        return sizes[0] - sizes[1]

    def _candidate(self, what: str, choice: Choice) -> Candidate:
        return Candidate(what, self._cost(choice), self._share(self._skipped), self._share(self._after(choice)))

    def _share(self, skipped: Sequence[Bools]) -> float:
        return sum(int(mine.sum()) for mine in skipped) / max(self._skippable, 1)

    def _after(self, choice: Choice) -> list[Bools]:
        """What a choice that adds to the present one skips; where nothing is left to gain, the same."""
        return [
            skipped if skipped[f.skippable].all() else self._prune(f, choice)
            for f, skipped in zip(self._filters, self._skipped, strict=True)
        ]

    def _prune(self, f: Filter, choice: Choice) -> Bools:
        """Which row groups a filter skips [G]."""
        if choice.score_maps:
            return f.skippable  # the limits of the scores rule out whatever no row's score passes
        pairs = tuple(sorted(pair for pair in choice.pairs if set(pair) <= set(f.predicate.inputs)))
        seen = replace(choice, pairs=pairs, hull_bytes=choice.hull_bytes if pairs else 0)
        if (f, seen) not in self._found:
            budget = Budget(f.predicate.seconds_per_row)
            # The boxes that are always granted are for all row groups of the table together.
            budget = replace(budget, free_boxes=max(1, round(budget.free_boxes * self._sample.share)))
            skipped = np.zeros(len(self._sample), np.bool_)
            for regions in self._seen(seen):
                skipped |= prune(f.predicate, regions, budget).decision == SKIP
            self._found[f, seen] = skipped & f.skippable
        return self._found[f, seen]

    def _seen(self, choice: Choice) -> list[Regions]:
        """The regions of the row groups: one with their boxes, and one with their blocks."""
        if choice not in self._regions:
            for pair in choice.pairs:
                if (pair, choice.hull_bytes) not in self._polygons:
                    self._polygons[pair, choice.hull_bytes] = self._sample.hull(pair, choice.hull_bytes)
            polygons = [self._polygons[pair, choice.hull_bytes] for pair in choice.pairs]
            covers = [self._sample.boxes(choice.boxes)] if choice.boxes else []
            covers += [self._sample.runs(choice.runs)] if choice.runs > 1 or not choice.boxes else []
            self._regions[choice] = [self._sample.regions(cover, polygons) for cover in covers]
        return self._regions[choice]
