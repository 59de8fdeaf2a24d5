"""Who may import whom: two halves with one shared core, one door to each outside thing, no cycles."""

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import samebits

_PACKAGE = Path(samebits.__file__).parent
_TRAINING = {"tensorflow", "keras"}
_ARRAYS = {"numpy", "h5py"}
_WITH_ARRAYS = "samebits.host.distance"


@dataclass(frozen=True)
class Import:
    """One import statement's target; `at_top` where it runs as soon as its module is imported."""

    module: str
    target: str
    at_top: bool

    @property
    def package(self) -> str:
        return self.target.partition(".")[0]


def _module_name(path: Path) -> str:
    parts = ("samebits", *path.relative_to(_PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {_module_name(path): path.read_text() for path in sorted(_PACKAGE.rglob("*.py"))}


def _nodes(node: ast.AST, *, at_top: bool) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes below one; what functions hold, and what type checkers alone see, does not run at the top."""
    for child in ast.iter_child_nodes(node):
        yield child, at_top
        later = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) or (
            isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        )
        yield from _nodes(child, at_top=at_top and not later)


def imports_of(module: str, source: str) -> Iterator[Import]:
    """Every import of a module; `from package import module` counts as an import of the module."""
    for node, at_top in _nodes(ast.parse(source), at_top=True):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            inner = (f"{base}.{alias.name}" for alias in node.names)
            targets = [name if name in SOURCES else base for name in inner]
        for target in targets:
            yield Import(module, target, at_top)


def _layer(module: str) -> str:
    """`host`, `container` or `shared`; `python -m samebits` is the host's command line."""
    part = module.split(".")[1:2]
    return "host" if part == ["__main__"] else part[0] if part in (["host"], ["container"]) else "shared"


def _only_in(package: str, *modules: str) -> Callable[[Import], bool]:
    return lambda found: found.package == package and found.module not in modules


RULES: dict[str, Callable[[Import], bool]] = {
    "relative": lambda found: found.target.startswith("."),
    # A layer imports itself and the shared core.
    "layers": lambda found: (
        found.package == "samebits" and _layer(found.target) not in ("shared", _layer(found.module))
    ),
    # One door to each outside thing.
    "docker": _only_in("docker", "samebits.host.engine"),
    "programs": _only_in("subprocess", "samebits.host.process", "samebits.container.process"),
    "rich": _only_in("rich", "samebits.host.display"),
    "nvml": _only_in("pynvml", "samebits.gpu"),
    # TensorFlow and its kin are imported in the container's half, by the functions that need them.
    "training": lambda found: found.package in _TRAINING and (_layer(found.module) != "container" or found.at_top),
    # The host reads kept tensors in one place, and only when it must: the command line starts without.
    "arrays": lambda found: (
        found.package in _ARRAYS
        and (found.at_top or (_layer(found.module) != "container" and found.module != _WITH_ARRAYS))
    ),
    # Beside the script there is the standard library, and what requirements.lock holds.
    "foreign": lambda found: (
        _layer(found.module) != "host"
        and found.package not in {*sys.stdlib_module_names, *_TRAINING, *_ARRAYS, "samebits", "pynvml"}
    ),
}


def violations(rule: str, module: str, source: str) -> list[str]:
    """The imports of one module that break one rule."""
    return [f"{module} imports {found.target}" for found in imports_of(module, source) if RULES[rule](found)]


def cycle(sources: dict[str, str]) -> list[str]:
    """Modules that need each other to be imported; empty where there are none."""
    graph = {
        module: {found.target for found in imports_of(module, source) if found.at_top and found.target in sources}
        for module, source in sources.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str) -> None:
    assert len(SOURCES) > 20
    assert [line for module, source in SOURCES.items() for line in violations(rule, module, source)] == []


def test_no_cycles() -> None:
    assert cycle(SOURCES) == []


_BROKEN = [
    ("relative", "samebits.tree", "from . import digest"),
    ("layers", "samebits.host.runs", "import samebits.container.script"),
    ("layers", "samebits.host.runs", "def f():\n from samebits import container"),
    ("layers", "samebits.container.script", "from samebits.host.runs import find_run"),
    ("layers", "samebits.tree", "from samebits.host import runs"),
    ("layers", "samebits.tree", "try:\n from samebits.container import script\nexcept OSError:\n pass"),
    ("layers", "samebits.tree", "if TYPE_CHECKING:\n from samebits.host.engine import Engine"),
    ("docker", "samebits.host.image", "from docker.errors import APIError"),
    ("programs", "samebits.host.image", "def f():\n import subprocess"),
    ("rich", "samebits.host.runs", "import rich.table"),
    ("nvml", "samebits.container.environment", "import pynvml"),
    ("arrays", "samebits.container.tensors", "import numpy as np"),
    ("arrays", "samebits.container.tensors", "class A:\n import h5py"),
    ("arrays", "samebits.codec", "def f():\n import numpy"),
    ("arrays", "samebits.host.distance", "import h5py"),
    ("training", "samebits.container.tensors", "import tensorflow as tf"),
    ("training", "samebits.host.runs", "def f():\n import keras.utils"),
    ("foreign", "samebits.codec", "import requests"),
    ("foreign", "samebits.container.script", "def f():\n import blake3"),
]


@pytest.mark.parametrize(("rule", "module", "source"), _BROKEN)
def test_a_rule_can_be_broken(rule: str, module: str, source: str) -> None:
    assert len(violations(rule, module, source)) == 1


def test_every_rule_is_shown_to_break() -> None:
    assert {rule for rule, _, _ in _BROKEN} == set(RULES)


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ("from samebits.codec import x", "import samebits.tree", True),
        ("from samebits import codec", "class A:\n from samebits import tree", True),
        ("from samebits.codec import x", "def f():\n import samebits.tree", False),
        ("from samebits.codec import x", "if TYPE_CHECKING:\n import samebits.tree", False),
    ],
)
def test_a_cycle_can_be_found(one: str, other: str, found: bool) -> None:
    assert bool(cycle({"samebits.tree": one, "samebits.codec": other})) == found
