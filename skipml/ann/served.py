"""A sample of the queries that an index served with a promise, for checking whether it still holds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from skipml.ann.metric import Singles

_MOST = 512


@dataclass(slots=True)
class Served:
    """At most 512 queries, of all that were seen each with the same chance."""

    seen: int = 0
    kept: list[Singles] = field(default_factory=list)
    _rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def add(self, queries: Singles) -> None:
        """Queries [q, d] that were served."""
        for query in queries:
            self.seen += 1
            if len(self.kept) < _MOST:
                self.kept.append(query.copy())
            elif (place := int(self._rng.integers(self.seen))) < _MOST:
                self.kept[place] = query.copy()

    def sample(self, dimension: int) -> Singles:
        """Those kept, in random order, [q, d]."""
        queries = np.array(self.kept, np.float32).reshape(-1, dimension)
        return queries[self._rng.permutation(len(queries))]
