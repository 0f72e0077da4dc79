"""Run a DuckDB method where it finds the caller's variables: `FROM df` looks a name up in the Python frame that calls
DuckDB.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

_CALL = compile("__skipml_method__(*__skipml_args__, **__skipml_kwargs__)", "<caller's variables>", "eval")


def visible(frame: FrameType | None) -> dict[str, Any]:
    """The variables of a frame, locals before globals: a view or a macro may read one that the query does not name."""
    return {**frame.f_globals, **frame.f_locals} if frame is not None else {}


def named(variables: Mapping[str, Any], *texts: object) -> dict[str, Any]:
    """The variables whose names occur in the texts, the only ones worth holding on to."""
    words = {word for text in texts if isinstance(text, str) for word in re.findall(r"\w+", text)}
    return {name: variables[name] for name in words if name in variables}


def call(variables: Mapping[str, Any], method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the method from a frame that holds the variables."""
    scope = {**variables, "__skipml_method__": method, "__skipml_args__": args, "__skipml_kwargs__": kwargs}
    return eval(_CALL, scope)
