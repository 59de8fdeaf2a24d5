"""Rules on orders that nobody decides: of sets, of hashes, of folders."""

import ast
from collections.abc import Iterator

from samebits.host.lint.source_module import Match, SourceModule, constant

_LISTING = ("os.listdir", "os.scandir", "os.walk", "glob.glob", "glob.iglob", "tensorflow.io.gfile.listdir")
_METHODS = frozenset({"iterdir", "glob", "rglob"})
_SETTLES = frozenset({"sorted", "len", "set", "frozenset", "any", "all", "sum", "max", "min"})
_SEQUENCES = frozenset({"list", "tuple", "enumerate", "iter", "map", "zip", "numpy.array"})


def order_of_a_set(module: SourceModule) -> Iterator[Match]:
    """A set that is gone through, or made a sequence of, in its own order."""
    for node in module.nodes:
        if isinstance(node, ast.For) and module.is_set(node.iter):
            yield node.iter, ast.unparse(node.iter)
        elif isinstance(node, ast.comprehension) and module.is_set(node.iter):
            if not _settled(module, module.parents[node]):
                yield node.iter, ast.unparse(node.iter)
        elif isinstance(node, ast.Call) and _lines_up_a_set(module, node) and not _settled(module, node):
            yield node, ast.unparse(node)


def _lines_up_a_set(module: SourceModule, call: ast.Call) -> bool:
    called = module.called(call)
    return (called in _SEQUENCES or called.endswith(".join")) and any(module.is_set(item) for item in call.args)


def _settled(module: SourceModule, node: ast.AST) -> bool:
    """Whether something stands where order does not matter: in `sorted(…)`, `len(…)`, or in a set of its own."""
    parent = module.parents.get(node)
    while isinstance(parent, (ast.Starred, ast.GeneratorExp, ast.ListComp, ast.comprehension)):
        node, parent = parent, module.parents.get(parent)
    if isinstance(node, ast.SetComp) or isinstance(parent, (ast.SetComp, ast.Compare)):
        return True
    return isinstance(parent, ast.Call) and module.called(parent) in _SETTLES


def hash_of_text(module: SourceModule) -> Iterator[Match]:
    """`hash()`, which gives text another number in every process."""
    for call, called in module.calls():
        if called == "hash" and call.args and not isinstance(constant(call.args[0]), (int, float)):
            yield call, ast.unparse(call)


def unsorted_listing(module: SourceModule) -> Iterator[Match]:
    """A folder's entries in the order that the file system gives them."""
    for call, called in module.calls():
        method = isinstance(call.func, ast.Attribute) and call.func.attr in _METHODS
        if (called in _LISTING or method) and not _settled(module, call) and not _sorted_later(module, call):
            yield call, ast.unparse(call)


def _sorted_later(module: SourceModule, call: ast.Call) -> bool:
    """Whether a name that the listing is given is sorted anywhere, by `names.sort()` or in `sorted(names)`."""
    parent = module.enclosing(call, (ast.stmt,))
    targets = (
        parent.targets if isinstance(parent, ast.Assign) else [parent.target] if isinstance(parent, ast.For) else []
    )
    names = {name for target in targets for name in _names(target)}
    for other, called in module.calls():
        owner = other.func.value if isinstance(other.func, ast.Attribute) and other.func.attr == "sort" else None
        sorts = [*other.args[:1]] if called == "sorted" else [] if owner is None else [owner]
        if any(_names(item) & names for item in sorts):
            return True
    return False


def _names(node: ast.AST) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
