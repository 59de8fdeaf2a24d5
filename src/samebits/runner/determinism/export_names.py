"""The names of functions in exported models: numbered within the model, instead of within the process.

TensorFlow ends the names of functions by a number that counts all that the process made, and writes them in an order
that follows from the names. A resumed run makes fewer, so it exported another file.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from samebits.runner.compat import tensorflow_private
from samebits.runner.compat.patches import Patches

_GIVEN = "_user_specified_name"
_NUMBER = re.compile(r"_\d+(?=(?:_rewritten)?(?:_grad_\d+)?$)")
_LAST = re.compile(r"_(\d+)(?:_rewritten)?$")
_FUNCTION = re.compile(r"__(inference|forward|backward)_.*_\d+")
_OF_FUNCTION = ("__inference___forward_", "__inference___backward_")
_GRADIENT = re.compile(r"(.*-)\d+")
_UNUSED = re.compile(r"_\d+(?=___redundant_placeholder)")
"""The number of a loop, in the name of an argument that its condition does not use."""
_CAPTURED = re.compile(r"(.+?)_\d+(_0)?")
"""The name of an argument that holds a captured tensor, by the number of that."""


def install_export_names(patches: Patches) -> None:
    """Number the functions of every model that is exported."""
    patches.wrap(tensorflow_private.exported_graph_location(), _numbered)


def _numbered(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def build(*arguments: Any, **options: Any) -> Any:
        made = original(*arguments, **options)
        _Numbering(made[0]).apply()
        return made

    return build


class _Numbering:
    """New names for the functions of a `MetaGraphDef`, in the order in which the model refers to them."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._library = model.graph_def.library
        self._functions = {function.signature.name: function for function in self._library.function}
        self._names: dict[str, str] = {}
        self._seen: set[str] = set()
        self._found: list[str] = []
        self._counted: Counter[str] = Counter()

    def apply(self) -> None:
        """Rename the functions wherever the model names them, and order them by that."""
        objects = self._model.object_graph_def
        self._nodes(self._model.graph_def.node)
        for item in objects.nodes:
            if item.HasField("function"):
                names = item.function.concrete_functions
                names[:] = [self._function(name) for name in names]
            if item.HasField("bare_concrete_function"):
                bare = item.bare_concrete_function
                bare.concrete_function_name = self._function(bare.concrete_function_name)
        self._bodies()
        # What nothing else names comes last, in the order in which it was made.
        for name in sorted(self._functions, key=_when_made):
            self._function(name)
            self._bodies()
        self._gradients()
        for items in (objects.concrete_functions, self._model.meta_info_def.function_aliases):
            _rename_keys(items, self._function)
        self._order()

    def _bodies(self) -> None:
        """Rename what is named in the functions that were found, also in those that are found there."""
        while self._found:
            function = self._functions[self._found.pop(0)]
            self._attributes(function.attr)
            for place in sorted(function.arg_attr):
                self._attributes(function.arg_attr[place].attr)
            self._nodes(function.node_def)
            _rename_arguments(function)

    def _nodes(self, nodes: Iterable[Any]) -> None:
        for node in nodes:
            node.op = self._known(node.op)
            self._attributes(node.attr)

    def _attributes(self, attributes: Any) -> None:
        for key in sorted(attributes):
            value = attributes[key]
            kind = value.WhichOneof("value")
            if kind == "func":
                self._called(value.func)
            elif kind == "list":
                for function in value.list.func:
                    self._called(function)
            elif kind == "s" and value.s:
                value.s = self._text(key, value.s)

    def _called(self, function: Any) -> None:
        function.name = self._known(function.name)
        self._attributes(function.attr)

    def _text(self, key: str, text: bytes) -> bytes:
        name = text.decode("utf-8", "surrogateescape")
        if key == "_gradient_op_type":
            new = self._gradient(name)
        elif key == _GIVEN and name.isdecimal():  # the number of a captured tensor
            new = self._new(name, "")
        else:
            new = self._known(name)
        return new.encode("utf-8", "surrogateescape")

    def _known(self, name: str) -> str:
        return self._function(name) if name in self._functions or _FUNCTION.fullmatch(name) else name

    def _function(self, name: str) -> str:
        if name in self._functions and name not in self._seen:
            self._seen.add(name)
            self._found.append(name)
        stem = _stem(name)
        return name if stem == name else self._new(name, f"{stem}_")

    def _gradient(self, name: str) -> str:
        match = _GRADIENT.fullmatch(name)
        return name if match is None else self._new(name, match[1])

    def _new(self, name: str, stem: str) -> str:
        if name not in self._names:
            self._names[name] = f"{stem}{self._counted[stem]}"
            self._counted[stem] += 1
        return self._names[name]

    def _gradients(self) -> None:
        registered, gradients = self._library.registered_gradients, self._library.gradient
        for item in registered:
            item.gradient_func = self._function(item.gradient_func)
        for item in gradients:
            item.function_name, item.gradient_func = map(self._function, (item.function_name, item.gradient_func))
        registered.sort(key=lambda item: _when_made(item.gradient_func))
        gradients.sort(key=lambda item: _when_made(item.function_name))
        for item in registered:
            item.registered_op_type = self._gradient(item.registered_op_type)

    def _order(self) -> None:
        places = {name: place for place, name in enumerate(self._names)}
        functions = sorted(self._functions, key=lambda name: (places.get(name, -1), name))
        ordered = [_copy(self._functions[name]) for name in functions]
        for name, function in zip(functions, ordered, strict=True):
            function.signature.name = self._names.get(name, name)
        self._library.ClearField("function")
        self._library.function.extend(ordered)


def _stem(name: str) -> str:
    """The name of a function without the numbers that TensorFlow gave it."""
    stem = _NUMBER.sub("", name)
    return _stem(stem) if stem != name and stem.startswith(_OF_FUNCTION) else stem


def _rename_arguments(function: Any) -> None:
    """Name arguments by their places, where their names hold a number and are not the script's."""
    renamed: dict[str, str] = {}
    for place, argument in enumerate(function.signature.input_arg):
        captured = _CAPTURED.fullmatch(argument.name)
        if captured and not _named_by_script(function.arg_attr, place):
            last = captured[2] or ""
            new = f"{captured[1]}_arg{place}"
            # A loop names what it returns like the argument.
            renamed |= {argument.name: new + last, argument.name.removesuffix(last): new}
        else:
            renamed[argument.name] = _UNUSED.sub("", argument.name)
    inputs = [renamed[argument.name] for argument in function.signature.input_arg]
    outputs = [renamed.get(argument.name, argument.name) for argument in function.signature.output_arg]
    nodes = [node.name for node in function.node_def]
    if len({*inputs, *nodes}) < len(inputs) + len(nodes) or len({*outputs}) < len(outputs):
        return
    for argument in (*function.signature.input_arg, *function.signature.output_arg):
        argument.name = renamed.get(argument.name, argument.name)
    for node in function.node_def:
        node.input[:] = [_renamed_input(name, renamed) for name in node.input]
    returned = {renamed.get(key, key): _renamed_input(function.ret[key], renamed) for key in function.ret}
    function.ret.clear()
    function.ret.update(returned)


def _named_by_script(attributes: Any, place: int) -> bool:
    """Whether an argument has a name of its own, which is not the number of a tensor."""
    if place not in attributes or _GIVEN not in attributes[place].attr:  # to read what is not there would create it
        return False
    return not attributes[place].attr[_GIVEN].s.isdigit()


def _renamed_input(name: str, renamed: Mapping[str, str]) -> str:
    argument, colon, rest = name.partition(":")
    return renamed.get(argument, argument) + colon + rest


def _when_made(name: str) -> tuple[str, int, str]:
    """A key to sort by: the name without its number, and that number."""
    number = _LAST.search(name)
    return _stem(name), 0 if number is None else int(number[1]), name


def _rename_keys(items: Any, rename: Callable[[str], str]) -> None:
    """Give the items of a map new keys; the new one of an item may be the old one of another."""
    renamed = {rename(key): _copy(items[key]) for key in sorted(items, key=_when_made)}
    items.clear()
    for key, value in renamed.items():
        if isinstance(value, str):
            items[key] = value
        else:
            items[key].CopyFrom(value)


def _copy(value: Any) -> Any:
    """A copy of a message, which is not part of another one; of other values, they themselves."""
    return type(value).FromString(value.SerializeToString()) if hasattr(value, "SerializeToString") else value
