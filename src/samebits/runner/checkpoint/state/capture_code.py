"""Captures what the script's functions and classes hold: closures, default arguments, attributes and globals."""

import functools
import inspect
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from samebits.runner.checkpoint.state.capture_containers import Encode
from samebits.runner.checkpoint.state.code_inspection import (
    draws,
    global_names,
    holding_methods,
    is_ours,
    methods_of,
    names_and_texts,
    own_globals,
    own_method,
)
from samebits.runner.checkpoint.state.encoding import EMPTY, Encoded, UncapturableError, place_of, qualified_name
from samebits.runner.checkpoint.state.library_objects import is_library_class
from samebits.runner.checkpoint.state.object_inspection import is_cache
from samebits.runner.compat import cpython_private

_GENERATOR_TYPES = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)
_BY_TEXT = frozenset({"eval", "exec", "globals"})
"""What reaches any global of a module, by a text that only the running code knows."""
_BY_NAME = _BY_TEXT | {"__dict__", "getattr", "setattr", "vars"}
"""What reaches any attribute of a module so."""
_FINDS_MODULES = frozenset({"__globals__", "__import__", "f_globals", "getmodule", "import_module"})
"""What finds a module, or its globals, by a text or by an object."""
_MAKES_ANOTHER = _BY_NAME | {"type", "__class__", "copy", "deepcopy"}
"""What calls a method, or makes an object, without their names."""
_BOUND = (types.BuiltinFunctionType, types.MethodWrapperType)
_WITHOUT_STATE = (types.BuiltinFunctionType, property, staticmethod, classmethod)


class CodeCapture:
    """Captures code objects and notes which globals they refer to.

    `folder` is where the script's modules are. `encode` captures a value that code holds. `strict` opens a context in
    which iterators are refused, which they are not inside objects of libraries.
    """

    def __init__(self, folder: str, encode: Encode, strict: Callable[[], AbstractContextManager[None]]) -> None:
        self._folder = folder
        self._encode = encode
        self._strict = strict
        self.globals: dict[tuple[str, str], None] = {}
        """Module and name of each global that captured code refers to, in the order of discovery."""
        self.has_own = False
        """Whether code of the script was captured."""
        self.draws = False
        """Whether captured code may draw from a shared random generator."""
        self._functions: dict[types.FunctionType, bool] = {}
        """The script's functions, and whether each may."""

    def encode(self, value: Any, where: str) -> Encoded | None:
        """A function, method, partial or class as JSON; None for other values. Raises UncapturableError."""
        if isinstance(value, type):
            return {"type": self._type(value, where)}
        if isinstance(value, types.FunctionType):
            named = {"name": qualified_name(value), "place": place_of(value)}
            return {"function": named | self._function(value, where)}
        if isinstance(value, (functools.partial, functools.partialmethod)):
            if beside := getattr(value, "__dict__", {}).keys() - {"func", "args", "keywords"}:
                raise UncapturableError(f"{where} is a partial with attributes ({min(beside)}); hold them elsewhere")
            with self._strict():
                return {"partial": [self._encode(part, where) for part in (value.func, value.args, value.keywords)]}
        if isinstance(value, _GENERATOR_TYPES):
            raise UncapturableError(
                f"{where} is a Python generator, whose position cannot be saved; use a PyDataset or a tf.data.Dataset"
            )
        if isinstance(value, types.MethodType) or _is_bound_builtin(value):
            with nullcontext() if is_library_class(type(value.__self__)) else self._strict():
                found = {"name": value.__name__, "of": self._encode(value.__self__, where)}
                function = getattr(value, "__func__", None)
                # Another function than that of the class.
                if isinstance(function, types.FunctionType) and function is not own_method(
                    value.__self__, found["name"]
                ):
                    found["function"] = self._encode(function, where)
                return {"method": found}
        return {"constant": qualified_name(value)} if isinstance(value, _WITHOUT_STATE) else None

    def draws_beside(self, methods: Collection[types.FunctionType], own: Iterable[str] = ()) -> bool:
        """Whether captured code may draw from a shared generator outside of these methods, or calls them.

        `own` are names of attributes that hold generators.
        """
        others = [function for function in self._functions if function not in methods]
        names = {name for function in others for name in names_and_texts(function.__code__)}
        if own and not names.isdisjoint({*own, *_MAKES_ANOTHER, *(method.__name__ for method in methods)}):
            return True
        # A new object calls its `__init__`.
        calls = {name for method in methods for name in (method.__name__, *method.__qualname__.split(".")[-2:-1])}
        called = not names.isdisjoint(calls | _MAKES_ANOTHER)
        return any(self._functions[function] for function in (self._functions if called else others))

    def _type(self, kind: type, where: str) -> dict[str, Any]:
        self.has_own = True
        methods = [
            {"name": qualified_name(function), **self._own_function(function, f"{where}.{function.__name__}")}
            for function in holding_methods(kind)
        ]
        attributes = self._class_attributes(kind, where)
        found = {
            "name": qualified_name(kind),
            "attributes": attributes,
            "methods": methods,
            "replaced": _replaced(kind),
        }
        classes = self._classes_above(kind)
        return found | ({"of": classes} if classes else {})

    def _classes_above(self, kind: type) -> list[list[Encoded]]:
        """The script's own base classes and metaclasses of a class, by name."""
        above = [*inspect.getmro(type(kind)), *inspect.getmro(kind)[1:]]
        ours = [base for base in above if is_ours(base.__module__, self._folder)]
        return [[qualified_name(base), self._encode(base, qualified_name(base))] for base in ours]

    def _class_attributes(self, kind: type, where: str) -> dict[str, Encoded]:
        """The data that a class of the script holds; the globals of its methods are noted."""
        for function in methods_of(kind):
            self._note_globals(function)
        # Methods and descriptors are code; `methods_of` covers what they hold.
        data = {
            name: item for name, item in vars(kind).items() if not name.startswith("__") and self._holds_state(item)
        }
        return {
            name: self._encode(item, f"{where}.{name}")
            for name, item in sorted(data.items())
            if name != cpython_private.ABC_STATE
        }

    def _holds_state(self, item: Any) -> bool:
        """Whether an attribute of a class is data, or an object that can be called, and not just code."""
        import keras

        kinds = (keras.layers.Layer, keras.metrics.Metric, keras.losses.Loss, keras.optimizers.Optimizer)
        # A class within a class may hold settings.
        own = is_ours((item if isinstance(item, type) else type(item)).__module__, self._folder)
        data = not callable(item) and not hasattr(item, "__get__")
        return data or own or is_cache(item) or isinstance(item, (*kinds, functools.partialmethod))

    def _function(self, function: types.FunctionType, where: str) -> dict[str, Any]:
        if not is_ours(function.__module__ or "", self._folder):
            return {"cells": [], "holds": None}
        # The script's own function must be fully captured, even if a library's object holds it.
        with self._strict():
            return self._own_function(function, where)

    def _own_function(self, function: types.FunctionType, where: str) -> dict[str, Any]:
        self._note_globals(function)
        # A mutable default argument, or an attribute of a function, is state, too.
        held = [list(function.__defaults__ or ()), function.__kwdefaults__ or {}, vars(function)]
        holds = self._encode(held, where) if any(held) else None
        cells = []
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                cells.append(self._encode(cell.cell_contents, f"{name} of {where}"))
            except ValueError:  # an empty cell
                cells.append(EMPTY)
        return {"cells": cells, "holds": holds}

    def _note_globals(self, function: types.FunctionType) -> None:
        # A dataclass with slots has methods of the module dataclasses.
        if not is_ours(function.__module__ or "", self._folder):
            return
        self.has_own = True
        self._functions[function] = draws(function)
        self.draws = self.draws or self._functions[function]
        module = function.__module__
        known = vars(sys.modules.get(module, types.ModuleType("none")))
        names = list(global_names(function.__code__))
        used = own_globals(function.__code__)
        own = [name for name in names if name in used] if _BY_TEXT.isdisjoint(names) else names
        self.globals |= {(module, name): None for name in _reached(own, known, _BY_TEXT)}
        # `helper.counter` refers to a global of another module of the script, which a function may import itself.
        self._note_modules(names, known)
        if _finds_modules(names, known):
            self._note_all(list(names_and_texts(function.__code__)))

    def _note_all(self, names: Sequence[str]) -> None:
        """Note the globals of these names of all the script's modules: some of them are reached by a text."""
        for module, found in [(name, module) for name, module in list(sys.modules.items()) if module is not None]:
            if is_ours(module, self._folder) and module != "__mp_main__":
                self.globals |= {(module, name): None for name in _reached(names, vars(found), _BY_NAME)}

    def _note_modules(self, names: Sequence[str], known: Mapping[str, Any]) -> None:
        """Note the globals of the script's modules that code reaches from the globals `known`, one through another."""
        waiting, seen = [known], {id(known)}
        while waiting:
            outer = waiting.pop()
            for name in names:
                inner = outer[name] if name in outer else _imported(name, outer)
                if not isinstance(inner, types.ModuleType) or not is_ours(inner.__name__, self._folder):
                    continue
                self.globals |= {(inner.__name__, part): None for part in _reached(names, vars(inner), _BY_NAME)}
                if id(vars(inner)) not in seen:
                    seen.add(id(vars(inner)))
                    waiting.append(vars(inner))


def _replaced(kind: type) -> dict[str, str]:
    """The functions of a class that are not its own methods, by name: what a script put in the place of one, also."""
    found = {}
    for name, item in vars(kind).items():
        function = getattr(item, "__func__", None) or getattr(item, "fget", None) or item
        if isinstance(function, types.FunctionType) and function.__qualname__ != f"{kind.__qualname__}.{name}":
            found[name] = f"{qualified_name(function)} {place_of(function)}"
    return found


def misses_of(cache: Any, folder: str) -> int:
    """How often a cache of functools was filled, whose results cannot be read; 0 for a library's own function."""
    function = cache.__wrapped__
    is_library = isinstance(function, types.FunctionType) and not is_ours(function.__module__ or "", folder)
    return 0 if is_library else int(cache.cache_info().misses)


def _finds_modules(names: Sequence[str], known: Mapping[str, Any]) -> bool:
    """Whether code with these names may find a module as `sys.modules["helper"]` does; `known` are its globals."""
    by_table = "modules" in names and ("sys" in names or known.get("modules") is sys.modules)
    return by_table or not _FINDS_MODULES.isdisjoint(names)


def _imported(name: str, known: Mapping[str, Any]) -> types.ModuleType | None:
    """The module that `import name` in a function refers to, also relative to the package of its globals `known`."""
    return sys.modules.get(name) or sys.modules.get(f"{known.get('__package__')}.{name}")


def _reached(names: Sequence[str], known: Mapping[str, Any], any_by: frozenset[str]) -> list[str]:
    """The globals in `known` that code with these names reaches: all data where one of `any_by` is among the names."""
    found = names if any_by.isdisjoint(names) else [*names, *_data_names(known)]
    return [name for name in found if name in known]


def _data_names(known: Mapping[str, Any]) -> list[str]:
    """The names of a module that stand for data."""
    code = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
    return [name for name, value in known.items() if not name.startswith("__") and not isinstance(value, code)]


def _is_bound_builtin(value: Any) -> bool:
    """Whether a value is a method that is implemented in C, such as `rng.random` or `itertools.count().__next__`."""
    return isinstance(value, _BOUND) and not isinstance(value.__self__, (types.ModuleType, type(None)))
