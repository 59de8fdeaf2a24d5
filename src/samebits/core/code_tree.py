"""The code of a run: the script and the folder around it, as a tree of files."""

import fnmatch
import os
import re
import shutil
import stat
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.file_tree import Tree, TreeEntry, hash_tree
from samebits.core.inputs_lock import WORK, read_lock
from samebits.core.notebook import SUFFIX, cell_of, is_notebook, script_of
from samebits.core.own_output import output_files
from samebits.core.project import root_marker
from samebits.core.recipe import Code
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import MARKER, RunDir
from samebits.core.run_files import read_given
from samebits.core.tree_walk import TreeFilter, list_tree

# A larger folder is almost certainly data or a home folder that was named by mistake.
_MAX_CODE_FILES = 5_000
_MAX_CODE_BYTES = 50 << 20
_SCRIPTS = ("", ".py", ".pyw", SUFFIX)
_NOT_CODE = ("__pycache__", "*.pyc")
_EXPORTS = ("*.samebits.*", "mlruns")
"""What `report`, `pack` and `export` write into the current folder, by their default names."""
_PRIVATE_KEY = re.compile(rb"\s*-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_FIRST_BYTES = 100
FILE_TIME = 1_767_225_600
"""The time of every file that a script is given, 2026-01-01T00:00:00Z: it must not find out when it was started."""


def check_script(script: Path, python: tuple[int, int]) -> None:
    """Raise InputError unless `script` is a readable Python file. `python` is the version that will run it."""
    source = read_script(script)
    try:
        with warnings.catch_warnings(action="ignore"):  # the run itself shows them
            compile(source, str(script), "exec", dont_inherit=True)
    except SyntaxError as error:
        if not error.lineno:  # NUL bytes or an unknown encoding
            raise InputError(f"the script {script} is not Python source: {error.msg}; name a Python file") from error
        # A newer Python may accept what this one rejects.
        if python <= sys.version_info[:2]:
            place = _place(script, source, error.lineno)
            raise InputError(
                f"the script {script} is not valid Python: {place}: {error.msg}; fix it and run again"
            ) from error
    except (ValueError, MemoryError, RecursionError) as error:
        reason = str(error) or "nested too deeply"
        raise InputError(f"the script {script} is not Python source: {reason}; name a Python file") from error


def read_script(script: Path) -> bytes:
    """The source of a script; that of a notebook is made of its cells. Raises InputError."""
    try:
        if not stat.S_ISREG(os.stat(script).st_mode):
            raise InputError(f"the script {script} is not a file; name a Python file")
        # Text of any kind may happen to be valid Python.
        if script.suffix.lower() not in _SCRIPTS:
            raise InputError(f"the script {script} is neither a Python file (.py) nor a notebook ({SUFFIX}); name one")
        return script_of(script) if is_notebook(script) else read_given(script, anywhere=True)
    except FileNotFoundError:
        raise InputError(f"the script {script} does not exist; name a Python file") from None
    except OSError as error:
        raise InputError(f"cannot read the script {script}: {error.strerror}; name a Python file") from error


def _place(script: Path, source: bytes, line: int) -> str:
    """Where an error is: in a line, and for a notebook in a cell."""
    if not is_notebook(script):
        return f"line {line}"
    cell, number = cell_of(source.decode(), line)
    return f"cell {cell}, line {number}"


def converted_files(spec: RunConfig) -> dict[str, bytes]:
    """The files of the code that exist in the run only, by path: the script that a notebook becomes."""
    return {spec.code.entry: read_script(spec.script)} if is_notebook(spec.script) else {}


def code_filter(spec: RunConfig) -> TreeFilter:
    """What to leave out of the code tree: hidden files, caches, environments, data, inputs, runs, exports, own logs."""
    folders = (spec.runs,) if spec.data is None else (spec.runs, spec.data)
    return TreeFilter(
        patterns=(*_NOT_CODE, *_EXPORTS, *spec.exclude),
        folders=folders,
        markers=("pyvenv.cfg", MARKER),
        paths=_pinned(spec) | logs_in(spec),
        hidden=True,
    )


def _pinned(spec: RunConfig) -> frozenset[str]:
    """The lock of the inputs, and those inputs that lie in the code's folder: they have digests of their own."""
    if spec.inputs is None:
        return frozenset()
    files = (file.path for file in read_lock(spec.inputs).files)
    lock = os.path.relpath(os.path.realpath(spec.inputs), os.path.realpath(spec.code_folder))
    return frozenset((lock, *(path.removeprefix(f"{WORK}/") for path in files if path.startswith(f"{WORK}/"))))


def logs_in(spec: RunConfig) -> frozenset[str]:
    """The files in the code's folder that this command's output goes to, as in `samebits train … > log.txt`."""
    root = os.path.realpath(spec.code_folder) + os.sep
    return frozenset(path.removeprefix(root) for path in output_files() if path.startswith(root))


def hash_code(spec: RunConfig, converted: Mapping[str, bytes] = MappingProxyType({})) -> Tree:
    """The tree of the code's folder, with the files in `converted` in place of the notebook that they are made of.

    Raises InputError if it is too large to be code, or holds a private key.
    """
    leave_out = code_filter(spec)
    files = list_tree(spec.code_folder, "code", leave_out)
    # Checked before hashing, which would take minutes for a folder of data.
    size = sum(item[2] for item in files)
    if len(files) > _MAX_CODE_FILES or size > _MAX_CODE_BYTES:
        raise InputError(_too_large(spec, files, size))
    _refuse_keys(files)
    tree = hash_tree(spec.code_folder, "code", leave_out=leave_out, modes=True)
    if converted:
        tree = _with_converted(spec, tree, converted)
    # The hidden and excluded files may include the script itself.
    if spec.code.entry not in (entry.path for entry in tree.entries):
        raise InputError(f"the script {spec.script} is left out as a hidden or excluded file; rename it")
    return tree


def _refuse_keys(files: list[tuple[str, str, int]]) -> None:
    """Raise InputError for a private key: the code is copied into the run, and the run may be given away."""
    for relative, path, _ in files:
        if path and _PRIVATE_KEY.match(_first_bytes(path)):
            raise InputError(
                f"the code holds a private key, {relative}, and the run would copy it;"
                " move it out of the code's folder, or leave it out with --exclude"
            )


def _first_bytes(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(_FIRST_BYTES)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; make it readable for you") from error


def _with_converted(spec: RunConfig, tree: Tree, converted: Mapping[str, bytes]) -> Tree:
    """A notebook also holds outputs and counts, which change when it is run: the recipe is about its code alone."""
    notebook = spec.code.entry.removesuffix(".py")
    entries = {entry.path: entry for entry in tree.entries}
    if notebook not in entries:
        raise InputError(f"the notebook {spec.script} is left out as a hidden or excluded file; rename it")
    del entries[notebook]
    for path, content in converted.items():
        if path in entries:
            raise InputError(f"{spec.code_folder / path} has the name of the script made of the notebook; rename it")
        entries[path] = TreeEntry(path=path, size=len(content), digest=Digest.of_bytes(content))
    return Tree(entries=tuple(sorted(entries.values(), key=lambda item: item.path.encode())), modes=tree.modes)


def _too_large(spec: RunConfig, files: list[tuple[str, str, int]], size: int) -> str:
    """The message for a folder that is no code; it names what is largest in it."""
    crowded = len(files) > _MAX_CODE_FILES
    folders: Counter[str] = Counter()
    for relative, _, count in files:
        folder, _, rest = relative.partition("/")
        folders[folder] += (1 if crowded else count) if rest else 0
    amounts = {
        f"{name}/": f"{n:,} files" if crowded else f"{n / 2**20:.0f} MiB" for name, n in folders.most_common(3) if n
    }
    largest = f", most in {', '.join(f'{name} {amount}' for name, amount in amounts.items())}" if amounts else ""
    choices = "name the data with --data, or leave files out with --exclude"
    if not _is_scripts_own(spec):
        choices += ", or name a smaller folder with --code"
    return (
        f"the code's folder {spec.code_folder.absolute()} holds {len(files):,} files, {size / 2**20:.0f} MiB"
        f"{largest}: too much for code; {choices}"
    )


def _is_scripts_own(spec: RunConfig) -> bool:
    """Whether the code's folder is the script's."""
    return os.path.abspath(spec.code_folder) == os.path.abspath(spec.script.parent)


def describe_code(spec: RunConfig, tree: Tree) -> str | None:
    """One line on what the code is; None where it is the script's own folder, as Python would have it."""
    code, chosen = spec.code, []
    if code.module is None and not _is_scripts_own(spec):
        why = root_marker(code.folder)
        chosen.append(
            f"the code is {code.folder}{'' if why is None else f' with its {why}'}: {len(tree.entries):,} files,"
            f" {tree.size / 2**20:.1f} MiB; choose another folder with --code"
        )
    if code.pythonpath:
        chosen.append(f"on the import path: {', '.join(code.pythonpath)}")
    if logs := sorted(logs_in(spec)):
        chosen.append(f"the code leaves out {', '.join(logs)}, which this command's output goes to")
    return "; ".join(chosen) or None


def hash_kept_code(run: RunDir, recorded: Code | None = None) -> Tree:
    """The tree of the code in a run's folder, without the caches that Python writes.

    It is hashed by the rule of the `recorded` code, which is read from the run's record if it is not given.
    """
    recorded = recorded or run.read().recipe.code
    leave_out = TreeFilter(patterns=_NOT_CODE, links=False)
    files = list_tree(run.code, "code", leave_out)
    # Twice as much as any run may begin with: what a notebook is converted to comes on top.
    if len(files) > 2 * _MAX_CODE_FILES or sum(item[2] for item in files) > 2 * _MAX_CODE_BYTES:
        raise InputError(f"the code's folder {run.code} holds too much for code; no samebits keeps so much")
    return hash_tree(run.code, "code", leave_out=leave_out, modes=recorded.modes)


def is_cache(path: str) -> bool:
    """Whether a file is one of the caches that Python writes beside its source."""
    return any(fnmatch.fnmatchcase(part, pattern) for part in path.split("/") for pattern in _NOT_CODE)


def copy_tree(source: Path, target: Path, tree: Tree, converted: Mapping[str, bytes]) -> None:
    """Copy a tree of code, with one time for all files; the content of some is in `converted`."""
    target.mkdir()
    for entry in tree.entries:
        path = target / entry.path
        if entry.digest is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.path in converted:
            path.write_bytes(converted[entry.path])
            path.chmod(0o644)
            continue
        shutil.copyfile(source / entry.path, path)
        # By the source where the tree holds no modes, as earlier versions copied them.
        executable = entry.executable if tree.modes else os.access(source / entry.path, os.X_OK)
        path.chmod(0o755 if executable else 0o644)
    _fix_times(target)


def _fix_times(target: Path) -> None:
    """Give all copied files and folders one time: a script must not find out when they were written."""
    for folder, _, files in os.walk(target, topdown=False):
        for path in (*(f"{folder}/{name}" for name in files), folder):
            os.utime(path, (FILE_TIME, FILE_TIME))
