"""The modules that a project's files import, and the distributions that bring them."""

import ast
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from samebits.core.distributions import distribution_of

_NEEDED_WHEN_USED = {
    "image_dataset_from_directory": ("Keras", "pillow"),
    "load_img": ("Keras", "pillow"),
    "save_img": ("Keras", "pillow"),
    "model_to_dot": ("Keras", "pydot"),
    "plot_model": ("Keras", "pydot"),
    "TensorBoard": ("Keras", "tensorboard"),
    "read_excel": ("pandas", "openpyxl"),
    "read_feather": ("pandas", "pyarrow"),
    "read_hdf": ("pandas", "tables"),
    "read_parquet": ("pandas", "pyarrow"),
}
"""By function or class: the library that it belongs to, and what that imports only when it is used."""

_NEEDED_BY_MODULE = {"tensorflow_probability": "tf-keras"}
"""What a library imports beside TensorFlow, and does not require."""

_ELSEWHERE = "google.colab"
"""A module of a service: no distribution that could be installed elsewhere brings it."""

_OPTIONAL = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
_PIP = re.compile(r"^\s*[%!]\s*(?:[\w./]+ -m )?pip3? install (.*)$", re.MULTILINE)
_NOT_PYTHON = re.compile(r"^\s*[%!].*$", re.MULTILINE)
_PACKAGE = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Need:
    """A distribution that a line of the project needs, and the module or function that needs it."""

    distribution: str
    path: str
    line: int
    by: str


def needs(tree: ast.Module, path: str, local: frozenset[str]) -> Iterator[Need]:
    """What a file needs beside the standard library and the project's own modules, which are `local`."""
    nodes = list(ast.walk(tree))
    optional = {inner for node in nodes if _is_optional(node) for inner in ast.walk(node)}
    has_pandas = any(name.partition(".")[0] == "pandas" for node in nodes for name in _imported(node))
    for node in nodes:
        if node not in optional:
            for distribution, by in (*_for_imports(node, local), *_for_use(node, has_pandas=has_pandas)):
                yield Need(distribution=distribution, path=path, line=getattr(node, "lineno", 1), by=by)


def _for_imports(node: ast.AST, local: frozenset[str]) -> Iterator[tuple[str, str]]:
    for name in _imported(node):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in local and not name.startswith(_ELSEWHERE):
            yield distribution_of(name), top
            if top in _NEEDED_BY_MODULE:
                yield _NEEDED_BY_MODULE[top], top


def _for_use(node: ast.AST, *, has_pandas: bool) -> Iterator[tuple[str, str]]:
    used = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    if used in _NEEDED_WHEN_USED:
        library, distribution = _NEEDED_WHEN_USED[used]
        # Polars and Dask have functions of the same names.
        if library != "pandas" or has_pandas:
            yield distribution, f"{library}'s {used}"


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [item.name for item in node.names]
    # A relative import is the project's own.
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []


def _is_optional(node: ast.AST) -> bool:
    """Whether a block may fail to import something, or is read by type checkers only."""
    if isinstance(node, ast.Try):
        names = [ast.unparse(handler.type) for handler in node.handlers if handler.type is not None]
        return any(name in _OPTIONAL for name in names) or len(names) < len(node.handlers)
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def local_names(paths: Iterable[str]) -> frozenset[str]:
    """The modules that files of a project can be imported as: their names and those of the folders above them."""
    return frozenset(part for path in paths for part in Path(path).with_suffix("").parts)


def notebook_cells(content: bytes) -> tuple[list[ast.Module], list[str]]:
    """The cells of a notebook that are Python without their magics, and what its cells install with pip."""
    cells: list[ast.Module] = []
    installed: list[str] = []
    with suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):
        for cell in json.loads(content)["cells"]:
            source = "".join(cell.get("source", "")) if cell.get("cell_type") == "code" else ""
            words = [word for found in _PIP.findall(source) for word in found.split()]
            installed += [word for word in words if _PACKAGE.match(word)]
            with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                cells.append(ast.parse(_NOT_PYTHON.sub("", source)))
    return cells, installed
