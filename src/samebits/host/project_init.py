"""`samebits init`: from an existing folder of scripts to a project: requirements, options, a line of .gitignore."""

import ast
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from samebits.core.code_tree import code_filter
from samebits.core.errors import InputError
from samebits.core.jsonio import storage_error
from samebits.core.notebook import SUFFIX
from samebits.core.project import CONFIG_NAME, CodeLayout
from samebits.core.run_config import RunConfig
from samebits.core.run_files import read_given
from samebits.core.tree_walk import list_tree
from samebits.host.image.project_lock import find_lock, find_requirements
from samebits.host.image.requirements import read_requirements
from samebits.host.lint.imports import Need, local_names, needs, notebook_cells
from samebits.host.lint.missing_packages import locked_names

REQUIREMENTS = "requirements.in"
_IGNORED_BY_GIT = "runs/"
_NOT_TRAINING = {"setup.py", "conftest.py", "noxfile.py"}
_NOT_TRAINING_FOLDERS = {"tests", "test", "docs", "build", "dist"}
_HEAD = "# The packages that the scripts import; `samebits lock` pins them. A version is written as in pandas>=2.\n"
_CONFIG = "# Options of `samebits train` for this project; the command line overrides them.\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class InitPlan:
    """The files to write, by name, with what to report of each; and the script that is most likely trained."""

    folder: Path
    contents: dict[str, str]
    reports: tuple[str, ...]
    script: str
    locks: bool


def plan_init(folder: Path) -> InitPlan:
    """Read the folder's scripts; nothing is written. Raises InputError where there is no script."""
    layout = CodeLayout(folder=folder, entry="init.py", workdir=".")
    spec = RunConfig(script=folder / "init.py", layout=layout, runs=folder / "runs")
    paths = [path for path, *_ in list_tree(folder, "code", code_filter(spec)) if path.endswith((".py", SUFFIX))]
    scripts = [path for path in paths if _may_train(path)]
    if not scripts:
        raise InputError(f"{folder.absolute()} holds no Python file and no notebook; name the folder of your scripts")
    found = {path: _trees(folder / path) for path in scripts}
    contents: dict[str, str] = {}
    reports = [
        *_requirements(spec, paths, found, contents),
        *_config(folder, found, contents),
        *_gitignore(folder, contents),
    ]
    locks = REQUIREMENTS in contents or (find_requirements(spec) is not None and find_lock(spec) is None)
    return InitPlan(folder=folder, contents=contents, reports=tuple(reports), script=_likely_script(found), locks=locks)


def write_plan(plan: InitPlan) -> None:
    """Write the files; one that exists is only added to. Raises StorageError."""
    for name, text in plan.contents.items():
        try:
            with open(plan.folder / name, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise storage_error(error, plan.folder / name) from error


def _may_train(path: str) -> bool:
    *folders, name = path.split("/")
    return (
        name not in _NOT_TRAINING and not name.startswith("test_") and not _NOT_TRAINING_FOLDERS.intersection(folders)
    )


def _trees(path: Path) -> tuple[list[ast.Module], list[str]]:
    """The syntax trees of a file, and what it installs; a file that is no Python has none."""
    try:
        content = read_given(path)
        if path.suffix == SUFFIX:
            return notebook_cells(content)
        with warnings.catch_warnings(action="ignore"):
            return [ast.parse(content)], []
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return [], []


_Found = dict[str, tuple[list[ast.Module], list[str]]]


def _requirements(spec: RunConfig, paths: list[str], found: _Found, contents: dict[str, str]) -> Iterator[str]:
    """Plan requirements.in, unless the project states its requirements already."""
    source = find_requirements(spec)
    listed = set[str]() if source is None else read_requirements(source).names
    local, known = local_names(paths), locked_names(spec) | listed
    # A cell of a notebook may use what another one imports.
    whole = {path: ast.Module([node for tree in trees for node in tree.body], []) for path, (trees, _) in found.items()}
    items = {item for path, tree in whole.items() for item in needs(tree, path, local)}
    items |= {_installed(path, text) for path, (_, installed) in found.items() for text in installed}
    missing = sorted({item.distribution for item in items if canonicalize_name(item.distribution) not in known})
    if source is not None:
        yield f"kept {source.name}" + (f"; it does not list what is imported: {', '.join(missing)}" if missing else "")
        return
    if not missing:
        yield "no packages are imported beside those that every run has"
        return
    contents[REQUIREMENTS] = _HEAD + "".join(f"{name}\n" for name in missing)
    yield f"wrote {REQUIREMENTS}: {', '.join(missing)}"
    if (spec.code_folder / "requirements.txt").exists():
        yield f"requirements.txt is not read; write the versions that you need into {REQUIREMENTS}"


def _installed(path: str, text: str) -> Need:
    name = text.partition("=")[0].partition("<")[0].partition(">")[0].partition("[")[0]
    return Need(distribution=canonicalize_name(name), path=path, line=1, by="pip")


def _config(folder: Path, found: _Found, contents: dict[str, str]) -> Iterator[str]:
    if (folder / CONFIG_NAME).exists():
        yield f"kept {CONFIG_NAME}"
        return
    # Data is not part of the code: a script that opens data/a.csv would no longer find it there.
    asks = any(_reads_data(tree) for trees, _ in found.values() for tree in trees)
    data = 'data = "data"\n' if asks and (folder / "data").is_dir() else '# data = "data"\n'
    contents[CONFIG_NAME] = _CONFIG + data + "seed = 0\n"
    yield f"wrote {CONFIG_NAME}"


def _reads_data(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.Constant) and node.value == "SAMEBITS_DATA" for node in ast.walk(tree))


def _gitignore(folder: Path, contents: dict[str, str]) -> Iterator[str]:
    path = folder / ".gitignore"
    try:
        text = read_given(path).decode("utf-8", "replace") if path.exists() else ""
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; fix or remove it") from error
    if {"runs", "/runs", "runs/", "/runs/"}.intersection(line.strip() for line in text.splitlines()):
        yield "kept .gitignore"
        return
    # A last line without its end must not run into ours.
    contents[".gitignore"] = ("\n" if text and not text.endswith("\n") else "") + f"{_IGNORED_BY_GIT}\n"
    yield f"added {_IGNORED_BY_GIT} to .gitignore"


def _likely_script(found: _Found) -> str:
    """The first file that calls `fit` at its outermost folder, and none of a package; else the first of all."""
    packages = {Path(path).parent for path in found if Path(path).name == "__init__.py"}
    scripts = {path: item for path, item in found.items() if Path(path).parent not in packages} or found
    training = [path for path, (trees, _) in scripts.items() if any(_calls_fit(tree) for tree in trees)]
    return min(
        training or scripts, key=lambda path: (path.count("/"), path != "train.py", os.path.basename(path), path)
    )


def _calls_fit(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "fit" for node in ast.walk(tree))
