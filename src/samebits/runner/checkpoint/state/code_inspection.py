"""Inspects the script's own code: which modules belong to it, which globals it uses, and whether it draws at random."""

import dis
import functools
import inspect
import os
import random
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

_CREATES_GENERATOR = frozenset(
    {
        *("default_rng", "Generator", "RandomState", "SeedSequence", "Random"),
        *("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"),
    }
)
"""Names in modules of random numbers that create a new generator, instead of drawing from a shared one."""

_HOLDS_FUNCTION = ("fget", "fset", "fdel", "__func__", "func", "python_function")
"""Where descriptors hold functions: properties, static and class methods, cached properties, graphs."""

# Instructions that do not change which value the next one works on.
_IGNORED_INSTRUCTIONS = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "PUSH_NULL", "RESUME"})


def is_ours(module: str, code: str) -> bool:
    """Whether a module belongs to the script: `__main__`, or a file in the folder `code`."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return module == "__main__" or (file is not None and file.startswith(_inside(code)))


@functools.cache
def _inside(folder: str) -> str:
    """How the paths of files in a folder begin: thousands of modules are asked for at every checkpoint."""
    return os.path.join(folder, "")


def calling_function(levels: int) -> str:
    """The name of the function `levels` calls above the function that calls this one; 1 is its caller."""
    frame = inspect.currentframe()
    for _ in range(levels + 1):
        frame = frame and frame.f_back
    return "" if frame is None else frame.f_code.co_name


def methods_of(kind: type) -> Iterator[types.FunctionType]:
    """The functions that a class itself defines, also inside of properties and other descriptors."""
    for item in vars(kind).values():
        inner = [getattr(item, name, None) for name in _HOLDS_FUNCTION] if hasattr(item, "__get__") else []
        yield from (function for function in (item, *inner) if isinstance(function, types.FunctionType))


def global_names(code: types.CodeType) -> Iterator[str]:
    """The names of globals and attributes that code uses, including those in nested functions."""
    for inner in code_objects(code):
        yield from inner.co_names


def names_and_texts(code: types.CodeType) -> Iterator[str]:
    """These names, and the texts of the code: an attribute can be reached by its name in a text, too."""
    yield from global_names(code)
    for inner in code_objects(code):
        yield from (text for text in inner.co_consts if isinstance(text, str))


@functools.cache
def own_globals(code: types.CodeType) -> frozenset[str]:
    """The names of globals that code and its nested functions use, without attributes of the same names."""
    steps = (step for inner in code_objects(code) for step in dis.get_instructions(inner))
    # Code of classes uses NAME; GLOBALS is for nested classes.
    return frozenset(str(step.argval) for step in steps if step.opname.endswith(("_GLOBAL", "_GLOBALS", "_NAME")))


def holding_methods(kind: type) -> list[types.FunctionType]:
    """The methods of a class that hold state themselves: in closures, default arguments or attributes."""
    return [
        item for item in methods_of(kind) if item.__closure__ or item.__defaults__ or item.__kwdefaults__ or vars(item)
    ]


def draws(function: types.FunctionType) -> bool:
    """Whether a function may draw from a shared random generator, as `np.random.normal` does.

    A generator that the function creates, such as `np.random.default_rng(seed)`, does not count. Any other use of
    something named `random` does.
    """
    return any(_code_draws(code, function.__globals__) for code in code_objects(function.__code__))


def code_objects(code: types.CodeType) -> Iterator[types.CodeType]:
    """Code, and that of the functions, classes and comprehensions in it."""
    yield code
    for constant in code.co_consts:
        # Nested functions, lambdas and comprehensions are constants of the outer code.
        if isinstance(constant, types.CodeType):
            yield from code_objects(constant)


def _code_draws(code: types.CodeType, known: Mapping[str, Any]) -> bool:
    steps = [step for step in dis.get_instructions(code) if step.opname not in _IGNORED_INSTRUCTIONS]
    # `import numpy.random` within a function makes a module a local object.
    imports = any(step.opname == "IMPORT_NAME" for step in steps)
    for previous, step, following in zip([None, *steps], steps, [*steps[1:], None], strict=False):
        name = step.argval if isinstance(step.argval, str) else ""
        value = known.get(name) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") else None
        if _draws_from_shared(value) or name.startswith("random_"):
            return True
        on_local = previous is not None and previous.opname.startswith(("CALL", "LOAD_FAST"))
        # A method of a local object, such as `rng.random()`. With an import, the object may be a module.
        if on_local and step.opname in ("LOAD_ATTR", "LOAD_METHOD") and not imports:
            continue
        if (name.rpartition(".")[2] == "random" or _is_random_module(value)) and not _creates_generator(following):
            return True
    return False


def _is_random_module(value: Any) -> bool:
    return isinstance(value, types.ModuleType) and value.__name__.rpartition(".")[2] == "random"


def _creates_generator(step: dis.Instruction | None) -> bool:
    """Whether the instruction after a random module gets something that does not draw from a shared generator."""
    if step is None or step.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
        return False
    return step.argval in _CREATES_GENERATOR or str(step.argval).startswith("stateless_")


def _draws_from_shared(value: Any) -> bool:
    """Whether a value is a function that draws from a shared generator, such as `random.random`."""
    import numpy as np

    # `random.random` is a method of a hidden, shared instance.
    owner = None
    # A class of the script may raise something else for a missing attribute.
    with suppress(Exception):
        owner = value.__self__
    if isinstance(owner, (random.Random, np.random.RandomState, np.random.Generator)):
        return True
    if isinstance(value, (types.ModuleType, type)) or not callable(value):
        return False
    name, module = getattr(value, "__name__", ""), str(getattr(value, "__module__", ""))
    harmless = name in _CREATES_GENERATOR or name.startswith("stateless_")
    return "random" in module.replace("_", ".").split(".") and not harmless


def own_method(owner: Any, name: str) -> types.FunctionType | None:
    """The function of this name in the class of an object, or in a class itself; None where there is none in Python."""
    for kind in (owner, type(owner)) if isinstance(owner, type) else (type(owner),):
        found = inspect.getattr_static(kind, name, None)
        function = getattr(found, "__func__", found)
        if isinstance(function, types.FunctionType):
            return function
    return None
