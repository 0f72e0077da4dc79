"""Put a mutant in place of the code that is loaded."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from tests.mutation.operators import Mutant

Functions = Mapping[tuple[str, str], list[FunctionType]]
"""The functions that are loaded, by file and qualified name."""


def loaded_functions(files: set[str]) -> Functions:
    """The functions of some files."""
    found: dict[tuple[str, str], list[FunctionType]] = {}
    for item in gc.get_objects():
        if type(item) is FunctionType and item.__code__.co_filename in files:
            found.setdefault((item.__code__.co_filename, item.__code__.co_qualname), []).append(item)
    return found


def put(mutant: Mutant, module: ModuleType, functions: Functions) -> bool:
    """Change the loaded module; False if nothing that is loaded changes.

    Functions keep their identity and get other code, so that whoever has imported, wrapped or inherited them runs it.
    """
    path = str(module.__file__)
    code = compile(mutant.source_of(Path(path).read_text()), path, "exec")
    if not mutant.function:
        return _put_constants(module, code, mutant)
    changed = False
    for new in _codes(code, mutant.function):
        for function in functions.get((path, mutant.function), ()):
            if function.__code__.co_firstlineno == new.co_firstlineno:
                function.__code__ = new
                changed = True
    return changed


def _codes(code: CodeType, name: str) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_qualname == name:
                yield constant
            elif name.startswith(f"{constant.co_qualname}."):
                yield from _codes(constant, name)


def _put_constants(module: ModuleType, code: CodeType, mutant: Mutant) -> bool:
    """Replace what the changed statement assigns, wherever it was imported under its name."""
    space: dict[str, object] = {"__name__": module.__name__, "__file__": module.__file__}
    exec(code, space)
    names = [name.strip(" ()") for name in mutant.change.partition(" = ")[0].split(",")]
    changed = False
    for name in names:
        old = getattr(module, name, None)
        if repr(old) == repr(space.get(name)):
            continue
        for holder in list(sys.modules.values()):
            if holder.__name__.startswith("skipml") and vars(holder).get(name) is old:
                setattr(holder, name, space[name])
                changed = True
    return changed
