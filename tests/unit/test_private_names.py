"""Private names of Keras, TensorFlow, NumPy and CPython, and patches of them, stand in `runner/compat` alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import samebits

_PACKAGE = Path(samebits.__file__).parent
SOURCES = {
    ".".join(path.relative_to(_PACKAGE.parent).with_suffix("").parts): path.read_text()
    for path in sorted(_PACKAGE.rglob("*.py"))
}

_DOOR = "samebits.runner.compat."
_PRIVATE_PACKAGES = ("keras.src", "tensorflow.python", "tensorflow.core", "tensorflow.compiler")
_DOCUMENTED = {"_exit", "_fields", "_asdict", "_replace", "_make"}  # of `os`, and of named tuples
_BY_NAME = {"getattr", "hasattr", "setattr", "delattr"}
_OF_OTHERS = {"samebits.host.docker": {"_sock"}}  # the SDK's, behind its own door


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in _DOCUMENTED


def _is_private_path(path: str) -> bool:
    parts = path.split(".")
    inside = any(path == package or path.startswith(f"{package}.") for package in _PRIVATE_PACKAGES)
    return inside or any(part.startswith("_") and not part.endswith("__") for part in parts)


def private_names(module: str, source: str) -> list[str]:
    """Private names of others that a module uses: attributes, names given as text, and paths of imports."""
    found = [name for node in ast.walk(ast.parse(source)) for name in _private_names_of(node)]
    return [] if module.startswith(_DOOR) else [name for name in found if name not in _OF_OTHERS.get(module, ())]


def _private_names_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and _is_private(node.attr):
        if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
            yield node.attr
    elif isinstance(node, ast.Call):
        yield from _private_texts(node)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if _is_private_path(alias.name))
    elif isinstance(node, ast.ImportFrom):
        paths = (f"{node.module}.{alias.name}" for alias in node.names)
        yield from (path for path in paths if _is_private_path(path))


def _private_texts(call: ast.Call) -> Iterator[str]:
    """What `getattr` and its like, and `import_module`, are given as text."""
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    texts = [item.value for item in call.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    if called in _BY_NAME:
        yield from (text for text in texts if _is_private(text))
    elif called in ("import_module", "__import__"):
        yield from (text for text in texts if _is_private_path(text))


_PATCHES = "samebits.runner.compat.patches"
_AS_PYTHON_DOES = {  # the hooks that the library documents
    "samebits.runner.script_runner": {"sys.argv"},
    "samebits.host.cli.parser": {"warnings.showwarning"},
}


def patched(module: str, source: str) -> list[str]:
    """Attributes of imported modules and classes that a module sets by itself."""
    tree = ast.parse(source)
    foreign = _imported_names(tree)
    found = [text for node in ast.walk(tree) for text in _set_attributes(node, foreign)]
    return [] if module == _PATCHES else [text for text in found if text not in _AS_PYTHON_DOES.get(module, ())]


def _imported_names(tree: ast.Module) -> set[str]:
    """Names of what is imported, and other names for it or for what is in it."""
    found = {
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _root(node.value) in found:
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        listed = node.iter if isinstance(node, ast.For) else None
        if isinstance(node, ast.For) and isinstance(listed, (ast.Tuple, ast.List)):
            names = {name.id for name in ast.walk(node.target) if isinstance(name, ast.Name)}
            found |= names if any(_root(item) in found for item in listed.elts) else set()
    return found


def _root(node: ast.AST) -> str | None:
    """The name that a chain of attributes begins with; None for what is no such chain."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _set_attributes(node: ast.AST, foreign: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)) and _root(node) in foreign:
        yield ast.unparse(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("setattr", "delattr"):
        yield from [ast.unparse(node)] * (_root(node.args[0]) in foreign)


@pytest.mark.parametrize("module", SOURCES)
def test_private_names_and_patches_have_one_door(module: str) -> None:
    assert private_names(module, SOURCES[module]) == []
    assert patched(module, SOURCES[module]) == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("model._initial_epoch", "_initial_epoch"),
        ("self.model._initial_epoch = 3", "_initial_epoch"),
        ("random._urandom", "_urandom"),
        ("sys._getframe(1)", "_getframe"),
        ('getattr(part, "_inputs", list)()', "_inputs"),
        ('hasattr(value, "_numpy")', "_numpy"),
        ("import keras.src.backend", "keras.src.backend"),
        ("def f():\n from keras import src", "keras.src"),
        ("from tensorflow.python.eager import context", "tensorflow.python.eager.context"),
        ("from tensorflow.core.protobuf import config_pb2", "tensorflow.core.protobuf.config_pb2"),
        ("from numpy._core import umath", "numpy._core.umath"),
        ("from random import _inst", "random._inst"),
        ('importlib.import_module("keras.src.utils")', "keras.src.utils"),
    ],
)
def test_a_private_name_is_found(source: str, name: str) -> None:
    assert private_names("samebits.runner.observe.observer", source) == [name]
    assert private_names("samebits.runner.compat.keras_private", source) == []


@pytest.mark.parametrize("source", ["self._mine", "cls._mine", "os._exit(0)", "x.__dict__", "import __future__"])
def test_what_is_no_private_name_of_others(source: str) -> None:
    assert private_names("samebits.runner.observe.observer", source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.urandom = f",
        "def f():\n import keras\n keras.Model.fit = g",
        "from random import Random\nRandom.seed = f",
        "import keras\ntold = keras.callbacks.CallbackList\ntold.on_train_end = f",
        "import os\nsetattr(os, name, f)",
        "import time\ndel time.time",
        "import a, b\nfor module in (a, b):\n module.f = g",
        "import os, time\nos.f, x = 1, 2",
    ],
)
def test_a_patch_is_found(source: str) -> None:
    assert len(patched("samebits.runner.observe.observer", source)) == 1
    assert patched(_PATCHES, source) == []
