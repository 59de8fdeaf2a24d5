"""Where a value comes from in one file: through names, parameters, containers and joined texts."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from samebits.host.lint.source_module import SourceModule, argument

_MAX_STEPS = 60  # of one search; assignments may be circular
_KEEP_THE_BEGINNING = frozenset({"format", "strip", "rstrip", "join", "lower"})
_ITEMS = frozenset({"items", "values", "get", "copy"})
_FIRST_ARGUMENT = frozenset({"str", "os.path.join", "urllib.parse.urljoin", "pathlib.Path", "sorted", "list", "tuple"})


@dataclass(slots=True)
class ValueFlow:
    """The values that names of a file may have, as far as this is known without running it.

    Like `SourceModule`, it takes equal names for the same thing.
    """

    module: SourceModule
    _bound: dict[str, list[ast.expr]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.module.nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                self._bind_defaults(node.args)
            elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
                self._bind_loop(node.target, node.iter)
        for call, called in self.module.calls():
            self._bind_arguments(call)
            if called.endswith("add_argument"):
                self._bind_option(call)

    def constants(self, node: ast.expr | None) -> Iterator[object]:
        """The constants that a value may be, or may begin with."""
        waiting, seen = [] if node is None else [node], set[ast.expr]()
        while waiting and len(seen) < _MAX_STEPS:
            item = waiting.pop()
            if item in seen:
                continue
            seen.add(item)
            if isinstance(item, ast.Constant):
                yield item.value
            waiting += self._origins(item)

    def _origins(self, node: ast.expr) -> list[ast.expr]:
        """The expressions that a value comes from, one step back."""
        if isinstance(node, (ast.Name, ast.Attribute)):
            name = node.id if isinstance(node, ast.Name) else node.attr
            own = self._bound.get(name if isinstance(node, ast.Name) else f".{name}", [])
            # An attribute may be set in a class's body, where it is a plain name.
            return [*self.module.assigned(node), *own, *self.module.values.get(name, [])]
        if isinstance(node, ast.Call):
            return self._of_call(node)
        return _parts(node)

    def _of_call(self, call: ast.Call) -> list[ast.expr]:
        if self.module.called(call) in _FIRST_ARGUMENT:
            return call.args[:1]
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if isinstance(call.func, ast.Attribute) and method in _KEEP_THE_BEGINNING | _ITEMS:
            # "/".join([first, …]) begins with its first item, not with the separator.
            return call.args[:1] if method == "join" else [call.func.value]
        return []

    def _bind(self, name: str, value: ast.expr | None) -> None:
        if value is not None:
            self._bound.setdefault(name, []).append(value)

    def _bind_loop(self, target: ast.expr, source: ast.expr) -> None:
        """Bind the names of a loop to what it goes through: a plain name, and pairs of the usual kinds."""
        if isinstance(target, ast.Name):
            for item in self.module.assigned(source) or [source]:
                # A dictionary is gone through by its keys.
                for part in item.keys if isinstance(item, ast.Dict) else [item]:
                    self._bind(target.id, part)
        elif isinstance(target, ast.Tuple) and isinstance(source, ast.Call):
            for one, value in zip(target.elts, self._pair(source), strict=False):
                if isinstance(one, ast.Name):
                    self._bind(one.id, value)

    def _pair(self, source: ast.Call) -> list[ast.expr | None]:
        """What the names of `for a, b in …` go through; None where that is unknown."""
        if isinstance(source.func, ast.Attribute) and source.func.attr == "items":
            return [None, source.func.value]
        called = self.module.called(source)
        return [None, *source.args] if called == "enumerate" else [*source.args] if called == "zip" else []

    def _bind_defaults(self, arguments: ast.arguments) -> None:
        positional = [*arguments.posonlyargs, *arguments.args]
        # Defaults belong to the last parameters.
        for parameter, value in zip(positional[::-1], arguments.defaults[::-1], strict=False):
            self._bind(parameter.arg, value)
        for parameter, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            self._bind(parameter.arg, default)

    def _bind_arguments(self, call: ast.Call) -> None:
        """Bind what a call passes to a function of this file."""
        function = self.module.function(call.func)
        if function is None:
            return
        names = [parameter.arg for parameter in (*function.args.posonlyargs, *function.args.args)]
        if names[:1] == ["self"]:
            del names[0]
        for name, value in zip(names, call.args, strict=False):
            self._bind(name, value)
        for keyword in call.keywords:
            if keyword.arg is not None:
                self._bind(keyword.arg, keyword.value)

    def _bind_option(self, call: ast.Call) -> None:
        """Bind the default of an option of `argparse` to the attribute that it sets."""
        for flag in call.args:
            if isinstance(flag, ast.Constant) and isinstance(flag.value, str):
                self._bind(f".{flag.value.lstrip('-').replace('-', '_')}", argument(call, -1, "default"))


def _parts(node: ast.expr) -> list[ast.expr]:
    """The parts of an expression that it may be, or begins with."""
    parts: list[ast.expr] = []
    if isinstance(node, (ast.Subscript, ast.Starred, ast.NamedExpr, ast.FormattedValue)):
        parts = [node.value]
    elif isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        parts = node.elts
    elif isinstance(node, (ast.Dict, ast.BoolOp)):
        parts = node.values
    elif isinstance(node, ast.JoinedStr):
        parts = node.values[:1]
    elif isinstance(node, ast.IfExp):
        parts = [node.body, node.orelse]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mod, ast.Div)):
        parts = [node.left]
    return parts


def any_text_begins(values: Iterable[object], beginnings: tuple[str, ...]) -> bool:
    """Whether one of the values is a text with one of the beginnings."""
    return any(isinstance(value, str) and value.strip().lower().startswith(beginnings) for value in values)
