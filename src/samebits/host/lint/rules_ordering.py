"""Rules on unspecified orders: of sets, hashes and folders."""

import ast
from collections.abc import Iterator

from samebits.host.lint.source_module import Match, SourceModule, constant

_LISTING_CALLS = ("os.listdir", "os.scandir", "os.walk", "glob.glob", "glob.iglob", "tensorflow.io.gfile.listdir")
_LISTING_METHODS = frozenset({"iterdir", "glob", "rglob"})
_ORDER_INDEPENDENT = frozenset({"sorted", "len", "set", "frozenset", "any", "all", "sum", "max", "min"})
_SORTING_CALLS = frozenset({"natsort.natsorted", "natsort.os_sorted", "numpy.sort", "numpy.unique"})
_ELEMENT_WISE = frozenset({"list", "tuple", "map", "filter", "iter", "reversed", "numpy.array", "numpy.asarray"})
"""They keep the elements apart, so that what they are passed to decides whether the order matters."""

_SEQUENCE_CALLS = frozenset({"list", "tuple", "enumerate", "iter", "map", "zip", "numpy.array"})


def set_iteration(module: SourceModule) -> Iterator[Match]:
    """SB201: a set that is iterated, or made into a sequence, in hash order."""
    for node in module.nodes:
        if isinstance(node, ast.For) and module.is_set(node.iter):
            yield node.iter, ast.unparse(node.iter)
        elif isinstance(node, ast.comprehension) and module.is_set(node.iter):
            if not _unordered_use(module, module.parents[node]):
                yield node.iter, ast.unparse(node.iter)
        elif isinstance(node, ast.Call) and _makes_sequence_of_set(module, node):
            yield node, ast.unparse(node)


def _makes_sequence_of_set(module: SourceModule, call: ast.Call) -> bool:
    """Whether a call turns a set into a sequence whose order matters."""
    called = module.called(call)
    if not (called in _SEQUENCE_CALLS or called.endswith(".join")):
        return False
    return any(module.is_set(item) for item in call.args) and not _unordered_use(module, call)


def _unordered_use(module: SourceModule, node: ast.AST) -> bool:
    """Whether a value is used where its order does not matter: in `sorted(…)`, `len(…)` or a set."""
    parent = module.parents.get(node)
    # What consumes a comprehension or a list decides, not these themselves.
    while isinstance(parent, (ast.Starred, ast.GeneratorExp, ast.ListComp, ast.comprehension)) or (
        isinstance(parent, ast.Call) and node in parent.args and module.called(parent) in _ELEMENT_WISE
    ):
        node, parent = parent, module.parents.get(parent)
    if isinstance(node, ast.SetComp) or isinstance(parent, (ast.SetComp, ast.Compare)):
        return True
    return isinstance(parent, ast.Call) and module.called(parent) in _ORDER_INDEPENDENT | _SORTING_CALLS


def text_hash(module: SourceModule) -> Iterator[Match]:
    """SB202: `hash()`, which differs between processes for text."""
    for call, called in module.calls():
        if called == "hash" and call.args and not isinstance(constant(call.args[0]), (int, float)):
            yield call, ast.unparse(call)


def unsorted_listing(module: SourceModule) -> Iterator[Match]:
    """SB203: a folder's entries in file-system order."""
    for call, called in module.calls():
        method = isinstance(call.func, ast.Attribute) and call.func.attr in _LISTING_METHODS
        listing = called in _LISTING_CALLS or method
        if listing and not _unordered_use(module, call) and not _sorted_later(module, call):
            yield call, ast.unparse(call)


def _sorted_later(module: SourceModule, call: ast.Call) -> bool:
    """Whether the listing is assigned to a name that the file sorts anywhere, by `.sort()` or `sorted(…)`."""
    parent = module.enclosing(call, (ast.stmt,))
    targets = (
        parent.targets if isinstance(parent, ast.Assign) else [parent.target] if isinstance(parent, ast.For) else []
    )
    # The body of `for folder, folders, files in os.walk(…)` may sort its targets.
    names = {name for target in targets for name in _names(target)}
    for other, called in module.calls():
        owner = other.func.value if isinstance(other.func, ast.Attribute) and other.func.attr == "sort" else None
        sorts = [*other.args[:1]] if called == "sorted" else [] if owner is None else [owner]
        if any(_names(item) & names for item in sorts):
            return True
    return False


def _names(node: ast.AST) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
