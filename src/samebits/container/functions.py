"""The user's own code: which modules are that, what its functions can reach, and whether they draw at random."""

import dis
import random
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

_MAKE_THEIR_OWN = frozenset({"default_rng", "Generator", "RandomState", "SeedSequence", "Random"})
_OF_BIT_GENERATORS = frozenset({"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"})
"""What modules of random numbers hold that draws nothing from what others share."""


def is_ours(module: str, code: str) -> bool:
    """Whether a module is of the user's own code."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return module == "__main__" or (file is not None and file.startswith(code))


def methods_of(kind: type) -> Iterator[types.FunctionType]:
    """The methods that a class itself has."""
    for item in vars(kind).values():
        inner = getattr(item, "fget", None) or getattr(item, "__func__", item)
        if isinstance(inner, types.FunctionType):
            yield inner


def global_names(code: types.CodeType) -> Iterator[str]:
    """The names of globals and attributes that code uses, also in functions inside of it."""
    for inner in _codes(code):
        yield from inner.co_names


def draws(function: types.FunctionType) -> bool:
    """Whether a function names a random generator that belongs to nobody, as `np.random.normal` does.

    A generator that it makes itself, as with `np.random.default_rng`, is its own; what `random` is imported as within
    the function is not followed, and counts.
    """
    return any(_draws(code, function.__globals__) for code in _codes(function.__code__))


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _draws(code: types.CodeType, known: Mapping[str, Any]) -> bool:
    found: Any = None
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME" and "random" in str(instruction.argval).split("."):
            return True
        if instruction.opname == "LOAD_GLOBAL":
            found = known.get(instruction.argval)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(found, types.ModuleType):
            found = getattr(found, instruction.argval, None)
        else:
            found = None
        if found is not None and _is_draw(found):
            return True
    return False


def _is_draw(value: Any) -> bool:
    """Whether a value is a function of a module of random numbers that draws from what others share."""
    import numpy as np

    if isinstance(getattr(value, "__self__", None), (random.Random, np.random.RandomState, np.random.Generator)):
        return True
    if isinstance(value, (types.ModuleType, type)) or not callable(value):
        return False
    name, module = getattr(value, "__name__", ""), str(getattr(value, "__module__", ""))
    own = name in _MAKE_THEIR_OWN | _OF_BIT_GENERATORS or name.startswith("stateless_")
    return "random" in module.replace("_", ".").split(".") and not own
