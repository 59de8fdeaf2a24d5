"""A parsed Python file of the user's: what its names refer to, as far as this is known without running it."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
Match: TypeAlias = tuple[ast.expr | ast.stmt, str]
"""The node that breaks a rule, and its text in the message."""

# The same module under several names; rules know only the last one.
_ALIASES = (("tensorflow.keras.", "keras."), ("tf_keras.", "keras."), ("tensorflow.compat.v2.", "tensorflow."))
_SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})


@dataclass(slots=True)
class SourceModule:
    """A file's syntax tree with its names indexed.

    Scopes and order are ignored: equal names are taken for the same thing. `path` is the path in findings. `values` are
    all assigned values by name; attributes are stored as `.name`, whatever object they belong to.
    """

    path: str
    tree: ast.Module
    text: str
    aliases: dict[str, str] = field(default_factory=dict)
    values: dict[str, list[ast.expr]] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    nodes: list[ast.AST] = field(default_factory=list)
    _calls: list[tuple[ast.Call, str]] = field(default_factory=list)
    _sets: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Walked once, because every rule needs all nodes.
        self.nodes = list(ast.walk(self.tree))
        for node in self.nodes:
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
            self._index(node)
        # `L = keras.layers` makes an alias, too.
        for name, values in self.values.items():
            dotted = [self.dotted(value) for value in values if isinstance(value, (ast.Attribute, ast.Name))]
            if len(values) == 1 and dotted and dotted[0] is not None and name not in self.aliases:
                self.aliases[name] = dotted[0]

    def _index(self, node: ast.AST) -> None:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self.aliases |= _imported(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self.functions[node.name] = node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, node.value)
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            self._assign(node.target, node.value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.values.setdefault(target.id, []).append(value)
        elif isinstance(target, ast.Attribute):
            self.values.setdefault(f".{target.attr}", []).append(value)
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            # `a, b = 1, 2` is two assignments.
            for one, other in zip(target.elts, value.elts, strict=True):
                self._assign(one, other)

    def calls(self, inside: ast.AST | None = None) -> Iterator[tuple[ast.Call, str]]:
        """Every call with its full name, such as `numpy.random.normal`; `.map` is a method of an unknown object."""
        if inside is None:
            self._calls = self._calls or self._called(self.nodes)
        yield from self._calls if inside is None else self._called(ast.walk(inside))

    def _called(self, nodes: Iterable[ast.AST]) -> list[tuple[ast.Call, str]]:
        return [(node, self.called(node)) for node in nodes if isinstance(node, ast.Call)]

    def called(self, call: ast.Call) -> str:
        """The full name of the function that a call calls; empty if it is unknown."""
        found = self.dotted(call.func)
        if found is not None:
            return found
        return f".{call.func.attr}" if isinstance(call.func, ast.Attribute) else ""

    def dotted(self, node: ast.AST) -> str | None:
        """The full name of what a name or attribute refers to; None if it is unknown."""
        if isinstance(node, ast.Name):
            # A name that the file does not define is mostly a builtin.
            unknown = node.id not in self.values and node.id not in self.functions
            found = self.aliases.get(node.id, node.id if unknown else None)
        elif isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            found = None if base is None else f"{base}.{node.attr}"
        else:
            return None
        return None if found is None else _canonical_name(found)

    def assigned(self, node: ast.expr) -> list[ast.expr]:
        """All values that the file assigns to a name or attribute."""
        if isinstance(node, ast.Name):
            return self.values.get(node.id, [])
        return self.values.get(f".{node.attr}", []) if isinstance(node, ast.Attribute) else []

    def is_set(self, node: ast.expr, seen: frozenset[ast.expr] = frozenset()) -> bool:
        """Whether a value is known to be a set. `seen` stops cycles of assignments."""
        if node in seen:
            return False
        seen |= {node}
        if isinstance(node, (ast.Set, ast.SetComp)):
            return True
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)):
            return self.is_set(node.left, seen) or self.is_set(node.right, seen)
        if isinstance(node, ast.Call):
            if self.called(node) in ("set", "frozenset"):
                return True
            method = node.func
            return isinstance(method, ast.Attribute) and method.attr in _SET_METHODS and self.is_set(method.value, seen)
        values = self.assigned(node)
        name = ast.unparse(node) if values else ""
        if name not in self._sets:  # cached, because every use of the name asks
            self._sets[name] = bool(values) and all(self.is_set(value, seen) for value in values)
        return self._sets[name]

    def is_dataset(self, node: ast.expr, seen: frozenset[ast.expr] = frozenset()) -> bool:
        """Whether a value is known to be a tf.data pipeline. `seen` stops cycles of assignments."""
        if node in seen:
            return False
        seen |= {node}
        if isinstance(node, ast.Call):
            called = self.called(node)
            if called.startswith("tensorflow.data.") or called.endswith("_dataset_from_directory"):
                return True
            return isinstance(node.func, ast.Attribute) and self.is_dataset(node.func.value, seen)
        return any(self.is_dataset(value, seen) for value in self.assigned(node))

    def function(self, node: ast.expr) -> Function | None:
        """The function of this file that a name, a method or a lambda refers to; None if there is none."""
        if isinstance(node, ast.Lambda):
            return node
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        found = self.functions.get(name)
        if found is None and isinstance(node, ast.Name):
            found = next((value for value in self.assigned(node) if isinstance(value, ast.Lambda)), None)
        return found

    def enclosing(self, node: ast.AST, kinds: tuple[type[ast.AST], ...]) -> ast.AST | None:
        """The nearest enclosing node of one of the kinds; None if there is none."""
        parent = self.parents.get(node)
        while parent is not None and not isinstance(parent, kinds):
            parent = self.parents.get(parent)
        return parent


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """The names that an import binds, with their full names."""
    if isinstance(node, ast.Import):
        tops = {item.name.partition(".")[0] for item in node.names if item.asname is None}
        return {top: top for top in tops} | {item.asname: item.name for item in node.names if item.asname is not None}
    if node.level or node.module is None:
        return {}
    return {item.asname or item.name: f"{node.module}.{item.name}" for item in node.names}


def _canonical_name(name: str) -> str:
    """The canonical name of a module that has several, such as `tensorflow.keras`."""
    for other, ours in _ALIASES:
        if f"{name}.".startswith(other):
            return f"{ours}{name[len(other) :]}".rstrip(".")
    return name


def argument(call: ast.Call, position: int, *names: str) -> ast.expr | None:
    """An argument by position or by one of its names; None if it is missing. Position -1 means by name only."""
    # Keywords first: a call with a keyword may also have other positional arguments.
    for keyword in call.keywords:
        if keyword.arg in names:
            return keyword.value
    return call.args[position] if 0 <= position < len(call.args) else None


def constant(node: ast.expr | None) -> object:
    """The value of a constant; otherwise a new object, which equals nothing."""
    return node.value if isinstance(node, ast.Constant) else object()


def has_unpacking(call: ast.Call) -> bool:
    """Whether arguments are unpacked from `*` or `**`, so that the given ones are unknown."""
    return any(isinstance(item, ast.Starred) for item in call.args) or any(item.arg is None for item in call.keywords)
