"""Restores what code holds: closures and default arguments, attributes of classes, and the objects of methods."""

import types
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from samebits.runner.checkpoint.state.code_inspection import holding_methods, own_method
from samebits.runner.checkpoint.state.encoding import (
    EMPTY,
    Encoded,
    UncapturableError,
    place_of,
    qualified_name,
    resolve_name,
)
from samebits.runner.checkpoint.state.object_inspection import cell_content, is_cache
from samebits.runner.compat import tensorflow_private

Restore = Callable[[Encoded, Any, str], Any]
"""Restores one value into a live one; the text says where."""


class CodeRestorer:
    """Restores what code holds, each value by `value`. Its methods are named by the kinds of encoded state."""

    def __init__(self, value: Restore) -> None:
        self._value = value

    def function(self, content: Any, live: Any, where: str) -> Any:
        """A function: the live one, or one of a module that has the saved name."""
        place = content.get("place")
        found = qualified_name(live) == content["name"] and place in (None, place_of(live))
        if not (isinstance(live, types.FunctionType) and found):
            live = resolve_name(content["name"], where, place)
        if content["holds"] is not None:
            self._defaults(content["holds"], live, where)
        # Cells are shared between closures, and so are changed in place.
        for item, cell in zip(content["cells"], live.__closure__ or (), strict=False):
            if item != EMPTY:
                cell.cell_contents = self._value(item, cell_content(cell), where)
        return live

    def _defaults(self, holds: Encoded, live: Any, where: str) -> None:
        """Restore default arguments and attributes; the former can be replaced, too."""
        named = live.__kwdefaults__ or {}
        defaults, named, _ = self._value(holds, [list(live.__defaults__ or ()), named, vars(live)], where)
        if any(one is not other for one, other in zip(defaults, live.__defaults__ or (), strict=False)):
            live.__defaults__ = tuple(defaults)
        if named and live.__kwdefaults__ is None:
            live.__kwdefaults__ = named

    def type(self, content: Any, live: Any, where: str) -> Any:
        """A class: its attributes, and what its methods hold."""
        if qualified_name(live) != content["name"]:
            raise UncapturableError(
                f"{where} was the class {content['name']}, but is {qualified_name(live)} when the script runs again"
            )
        for name, item in content["attributes"].items():
            current = vars(live).get(name)
            value = self._value(item, current, f"{where}.{name}")
            if value is not current:
                setattr(live, name, value)
        for name in content.get("without", ()):
            delattr(live, name)
        self.bases(content, live)
        for saved, function in zip(content["methods"], holding_methods(live), strict=False):
            if saved["name"] == qualified_name(function):
                self.function(saved, function, f"{where}.{function.__name__}")
        return live

    def bases(self, content: Mapping[str, Any], live: Any) -> None:
        """Restore the attributes of the script's classes that an object is an instance of, and of a class's own."""
        bases = {qualified_name(base): base for base in (*type(live).__mro__, *getattr(live, "__mro__", ()))}
        for name, item in content.get("of", ()):
            self._value(item, bases.get(name), name)

    def method(self, content: Any, live: Any, where: str) -> Any:
        """A method of the saved object: the live one, if it is that."""
        owner = self._value(content["of"], getattr(live, "__self__", None), where)
        name, function = content["name"], getattr(live, "__func__", None)
        foreign = content.get("function")
        meant = own_method(owner, name) if foreign is None else self._value(foreign, function, where)
        same = function is meant and getattr(live, "__name__", None) == name
        if same and getattr(live, "__self__", None) is owner:
            return live
        return getattr(owner, name) if meant is None else types.MethodType(meant, owner)

    def partial(self, content: Any, live: Any, where: str) -> Any:
        """A partial function or method."""
        if not hasattr(live, "keywords"):
            raise UncapturableError(f"{where} is not a partial function when the script runs again")
        held = (live.func, live.args, live.keywords)
        parts = [self._value(item, part, where) for item, part in zip(content, held, strict=True)]
        # Its function and arguments cannot be changed in place.
        same = all(one is other for one, other in zip(parts, held, strict=True))
        return live if same else type(live)(parts[0], *parts[1], **parts[2])

    def weak(self, content: Any, live: Any, where: str) -> Any:
        """A weak reference to the saved object."""
        known = live() if isinstance(live, weakref.ref) else None
        found = self._value(content, known, where)
        if isinstance(live, weakref.ref) and known is found:
            return live
        # Nothing holds what it refers to, so that it is gone at once.
        return weakref.ref(_Gone() if found is None else found)

    def wrapped(self, content: Any, live: Any, where: str) -> Any:
        """What a `tf.function` or a cache is made of."""
        function = live.__wrapped__ if is_cache(live) else tensorflow_private.python_function(live)
        self._value(content, function, where)
        return live


class _Gone:
    """What a weak reference referred to that is gone."""
