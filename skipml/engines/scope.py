"""Run a DuckDB method where it finds the caller's variables: `FROM df` looks a name up in the Python frame that calls
DuckDB.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

_CALL = compile("__skipml_method__(*__skipml_args__, **__skipml_kwargs__)", "<caller's variables>", "eval")


def visible(frame: FrameType | None, text: str) -> dict[str, Any]:
    """The variables of a frame whose names occur in the text, locals before globals."""
    if frame is None:
        return {}
    words = set(re.findall(r"\w+", text))
    found = {name: frame.f_globals[name] for name in words if name in frame.f_globals}
    found.update({name: value for name, value in frame.f_locals.items() if name in words})
    return found


def call(variables: Mapping[str, Any], method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the method from a frame that holds the variables."""
    scope = {**variables, "__skipml_method__": method, "__skipml_args__": args, "__skipml_kwargs__": kwargs}
    return eval(_CALL, scope)
