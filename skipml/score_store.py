"""Score maps out of scans: what a scan has to score anyway is added to the metadata of its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from skipml.errors import EnrichmentError
from skipml.features import model_inputs
from skipml.footers import Footers
from skipml.identity import Path
from skipml.metadata.contents import LabelMetadata, Metadata, ScoreMetadata
from skipml.metadata.loading import load
from skipml.metadata.storage import write_sidecar
from skipml.metadata.tie import Tie, tie
from skipml.predicates import Score
from skipml.scored import Scored, Scorer

_CELL_BYTES = 32


@dataclass(slots=True)
class ScoreStore:
    """The maps of the blocks of one file that a scan has scored so far, by block within the file."""

    path: str
    root: Path | None
    metadata: Metadata
    state: Tie
    scorers: tuple[Scorer, ...]
    found: list[dict[int, Scored]] = field(default_factory=list)

    @classmethod
    def of(cls, path: str, root: Path | None, footers: Footers, scores: Sequence[Score]) -> ScoreStore:
        """A store for the scores that a predicate tests, over a file whose blocks are those of the footers.

        Raises EnrichmentError for a file without a sidecar for its present state and these blocks.
        """
        state, loaded, file = tie(path), load(path, root), footers.files.index(path)
        metadata, mine = loaded.metadata, footers.file_index == file
        if metadata is None or loaded.identity != footers.identities[file]:
            why = f" ({loaded.reason})" if loaded.reason else ""
            raise EnrichmentError(f"'{path}' has no metadata that could hold scores{why}; enrich it first")
        blocks = (footers.row_group[mine], metadata.row_group), (footers.n_rows[mine], metadata.n_rows)
        if not all(np.array_equal(planned, stored) for planned, stored in blocks):
            raise EnrichmentError(f"'{path}' was enriched with other blocks since it was planned; plan again")
        if loaded.is_embedded:
            raise EnrichmentError(f"the metadata of '{path}' is in its footer, which scans leave alone; use a sidecar")
        spelled = {column.name.lower(): column for column in metadata.columns}
        scorers = {}
        for score in scores:
            columns = [spelled.get(name.lower()) for name in score.inputs]
            if missing := [name for name, column in zip(score.inputs, columns, strict=True) if column is None]:
                raise EnrichmentError(
                    f"'{path}' is not enriched for the column {missing[0]!r}; enrich it with that too"
                )
            names, types = zip(*((c.name, c.sql_type) for c in columns if c is not None), strict=True)
            function = score.verifier.function
            scorers[function.hash, names] = Scorer(function, names, types)
        return cls(path, root, metadata, state, tuple(scorers.values()), [{} for _ in scorers])

    def add(self, block: int, rows: pa.Table) -> None:
        """All rows of a block."""
        for scorer, found in zip(self.scorers, self.found, strict=True):
            values, null = model_inputs(rows, scorer.columns)
            found[block] = scorer.scored(values[scorer.has_score(values, null)], self._cell_bytes(scorer))

    def write(self) -> None:
        """Store what was added, beside what is there.

        Raises FileChangedError if the file has changed meanwhile, EnrichmentError if the sidecar cannot be written.
        """
        if not any(self.found):
            return
        made = [m for scorer, found in zip(self.scorers, self.found, strict=True) for m in self._scores(scorer, found)]
        new = {(m.model, m.columns, m.output) for m in made}
        kept = [m for m in self.metadata.scores if (m.model, m.columns, m.output) not in new]
        labels = [
            self._labels(scorer, found)
            for scorer, found in zip(self.scorers, self.found, strict=True)
            if scorer.n_labels
        ]
        others = {(m.model, m.columns) for m in labels}
        labels += [m for m in self.metadata.labels if (m.model, m.columns) not in others]
        metadata = replace(self.metadata, scores=(*kept, *made), labels=tuple(labels))
        write_sidecar(self.path, metadata, self.state, self.root)

    def _cell_bytes(self, scorer: Scorer) -> int:
        return int(self._map(scorer, 0).cells.shape[1])

    def _map(self, scorer: Scorer, output: int) -> ScoreMetadata:
        """What is stored of an output; sound for one that is not: any score, in any cell."""
        n, wanted = len(self.metadata), (scorer.function.hash, scorer.columns, output)
        unknown = np.full(n, np.inf), np.full((n, _CELL_BYTES), 255, np.uint8)
        stored = (m for m in self.metadata.scores if (m.model, m.columns, m.output) == wanted)
        return next(stored, ScoreMetadata(*wanted, -unknown[0], *unknown))

    def _scores(self, scorer: Scorer, found: dict[int, Scored]) -> list[ScoreMetadata]:
        made = []
        for output in range(scorer.function.n_outputs):
            old = self._map(scorer, output)
            lower, upper, cells = old.lower.copy(), old.upper.copy(), old.cells.copy()
            for block, scored in found.items():
                lower[block], upper[block] = scored.lower[output], scored.upper[output]
                cells[block] = scored.cells[output]
            made.append(replace(old, lower=lower, upper=upper, cells=cells))
        return made

    def _labels(self, scorer: Scorer, found: dict[int, Scored]) -> LabelMetadata:
        wanted = scorer.function.hash, scorer.columns
        every = np.full((len(self.metadata), -(-scorer.n_labels // 8)), 255, np.uint8)
        stored = (m for m in self.metadata.labels if (m.model, m.columns) == wanted)
        old = next(stored, LabelMetadata(*wanted, scorer.n_labels, every))
        labels = old.labels.copy()
        for block, scored in found.items():
            labels[block] = scored.labels
        return replace(old, labels=labels)
