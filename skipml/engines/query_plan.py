"""What to run instead of a query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from skipml.errors import FileChangedError
from skipml.identity import FileIdentity, check_unchanged, identity
from skipml.report import Report
from skipml.stores import RemoteFile

_PARAMETERS = ("parameters", "params")


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """What to run instead of a query (`sql` is None where the query runs as it is), and what was found out on the
    way.
    """

    sql: str | None
    report: Report
    states: tuple[tuple[str, FileIdentity], ...] = ()
    variables: Mapping[str, object] = field(default_factory=dict)
    """What `sql` reads beside the caller's own variables."""
    parameters: tuple[object] | None = None
    """What is bound in `sql` where that is not what the caller gave."""
    asked: tuple[tuple[str, FileIdentity], ...] = ()
    """Files whose store is asked for this version: another one makes the query fail, so only then they are checked."""

    def given(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """The arguments of DuckDB's call with the parameters that `sql` has."""
        if self.parameters is None:
            return dict(arguments)
        bound = self.parameters[0]
        return {n: bound if n in _PARAMETERS else v for n, v in arguments.items() if bound or n not in _PARAMETERS}

    def check_files(self, *, has_failed: bool = False) -> None:
        """Raise FileChangedError if a file that was pruned is no longer what it was when it was planned."""
        states = (*self.states, *self.asked) if has_failed else self.states
        for path, state in states:
            if not isinstance(path, RemoteFile):
                _check(path, state)
        remote = [(path, state) for path, state in states if isinstance(path, RemoteFile)]
        if remote:
            try:
                check_unchanged([path for path, _ in remote], [state for _, state in remote])
            except OSError as error:
                raise FileChangedError(
                    f"{error}: it cannot be told whether it has changed; run the query again"
                ) from error


def _check(path: str, state: FileIdentity) -> None:
    try:
        now = identity(path)
    except OSError as error:
        raise FileChangedError(f"{path} is gone since the query was planned ({error}); run the query again") from error
    if now != state:
        raise FileChangedError(f"{path} was rewritten while the query ran; run the query again")
