"""The user's own code: which modules are that, what its functions can reach, and whether they draw at random."""

import dis
import inspect
import random
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

_MAKE_THEIR_OWN = frozenset(
    {
        *("default_rng", "Generator", "RandomState", "SeedSequence", "Random"),
        *("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"),
    }
)
"""What modules of random numbers hold that draws nothing from what others share."""

_SILENT = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "PUSH_NULL", "RESUME"})


def is_ours(module: str, code: str) -> bool:
    """Whether a module is of the user's own code."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return module == "__main__" or (file is not None and file.startswith(code))


def calling_function(levels: int) -> str:
    """The name of the function so many calls above the one that asks; 1 is its caller."""
    frame = inspect.currentframe()
    for _ in range(levels + 1):
        frame = frame and frame.f_back
    return "" if frame is None else frame.f_code.co_name


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


def holding_methods(kind: type) -> list[types.FunctionType]:
    """Those that hold something themselves: in closures, default arguments or attributes."""
    return [
        item for item in methods_of(kind) if item.__closure__ or item.__defaults__ or item.__kwdefaults__ or vars(item)
    ]


def draws(function: types.FunctionType) -> bool:
    """Whether a function may draw from a random generator that belongs to nobody, as `np.random.normal` does.

    A generator that it makes itself, as by `np.random.default_rng`, is its own. Whatever else it does with something
    that is called `random` counts.
    """
    return any(_draws(code, function.__globals__) for code in _codes(function.__code__))


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _draws(code: types.CodeType, known: Mapping[str, Any]) -> bool:
    steps = [step for step in dis.get_instructions(code) if step.opname not in _SILENT]
    imports = any(step.opname == "IMPORT_NAME" for step in steps)
    for before, step, following in zip([None, *steps], steps, [*steps[1:], None], strict=False):
        name = step.argval if isinstance(step.argval, str) else ""
        value = known.get(name) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") else None
        if _is_draw(value) or name.startswith("random_"):
            return True
        of_own = before is not None and before.opname.startswith(("CALL", "LOAD_FAST"))
        if of_own and step.opname in ("LOAD_ATTR", "LOAD_METHOD") and not imports:
            continue  # a method of something of its own, as `rng.random`
        if (name.rpartition(".")[2] == "random" or _is_module_of_random(value)) and not _makes_its_own(following):
            return True
    return False


def _is_module_of_random(value: Any) -> bool:
    return isinstance(value, types.ModuleType) and value.__name__.rpartition(".")[2] == "random"


def _makes_its_own(step: dis.Instruction | None) -> bool:
    """Whether what follows the name of a module of random numbers is one of those that draw nothing."""
    if step is None or step.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
        return False
    return step.argval in _MAKE_THEIR_OWN or str(step.argval).startswith("stateless_")


def _is_draw(value: Any) -> bool:
    """Whether a value is a function of a module of random numbers that draws from what others share."""
    import numpy as np

    if isinstance(getattr(value, "__self__", None), (random.Random, np.random.RandomState, np.random.Generator)):
        return True
    if isinstance(value, (types.ModuleType, type)) or not callable(value):
        return False
    name, module = getattr(value, "__name__", ""), str(getattr(value, "__module__", ""))
    own = name in _MAKE_THEIR_OWN or name.startswith("stateless_")
    return "random" in module.replace("_", ".").split(".") and not own
