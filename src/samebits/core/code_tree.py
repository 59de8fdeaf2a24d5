"""The code of a run: the script and the folder around it, as a tree of files."""

import fnmatch
import os
import shutil
import stat
import sys
import warnings
from pathlib import Path

from samebits.core.errors import InputError
from samebits.core.file_tree import Tree, TreeFilter, hash_tree, list_tree
from samebits.core.inputs_lock import LOCK_NAME, WORK, read_lock
from samebits.core.recipe import Code
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import MARKER, RunDir

# A larger folder is almost certainly data or a home folder that was named by mistake.
_MAX_CODE_FILES = 5_000
_MAX_CODE_BYTES = 50 << 20
_NOT_CODE = ("__pycache__", "*.pyc")
_CODE_TIME = 1_767_225_600  # 2026-01-01T00:00:00Z, as of all files in an image


def check_script(script: Path, python: tuple[int, int]) -> None:
    """Raise InputError unless `script` is a readable Python file. `python` is the version that will run it."""
    try:
        if not stat.S_ISREG(os.stat(script).st_mode):
            raise InputError(f"the script {script} is not a file; name a Python file")
        source = script.read_bytes()
    except FileNotFoundError:
        raise InputError(f"the script {script} does not exist; name a Python file") from None
    except OSError as error:
        raise InputError(f"cannot read the script {script}: {error.strerror}; name a Python file") from error
    try:
        with warnings.catch_warnings(action="ignore"):  # the run itself shows them
            compile(source, str(script), "exec", dont_inherit=True)
    except SyntaxError as error:
        if not error.lineno:  # NUL bytes or an unknown encoding
            raise InputError(f"the script {script} is not Python source: {error.msg}; name a Python file") from error
        # A newer Python may accept what this one rejects.
        if python <= sys.version_info[:2]:
            raise InputError(
                f"the script {script} is not valid Python: line {error.lineno}: {error.msg}; fix it and run again"
            ) from error
    except (ValueError, MemoryError, RecursionError) as error:
        reason = str(error) or "nested too deeply"
        raise InputError(f"the script {script} is not Python source: {reason}; name a Python file") from error


def code_filter(spec: RunConfig) -> TreeFilter:
    """What to leave out of the code tree: hidden files, caches, virtual environments, data, inputs and runs."""
    folders = (spec.runs,) if spec.data is None else (spec.runs, spec.data)
    return TreeFilter(
        patterns=(*_NOT_CODE, *spec.exclude),
        folders=folders,
        markers=("pyvenv.cfg", MARKER),
        paths=_pinned(spec),
        hidden=True,
    )


def _pinned(spec: RunConfig) -> frozenset[str]:
    """The lock of the inputs, and those inputs that lie beside the script: they have digests of their own."""
    if spec.inputs is None:
        return frozenset()
    files = (file.path for file in read_lock(spec.inputs).files)
    return frozenset((LOCK_NAME, *(path.removeprefix(f"{WORK}/") for path in files if path.startswith(f"{WORK}/"))))


def hash_code(spec: RunConfig) -> Tree:
    """The tree of the script's folder; raises InputError if it is too large to be code."""
    leave_out = code_filter(spec)
    files = list_tree(spec.code_folder, "code", leave_out)
    # Checked before hashing, which would take minutes for a folder of data.
    size = sum(item[2] for item in files)
    if len(files) > _MAX_CODE_FILES or size > _MAX_CODE_BYTES:
        raise InputError(
            f"the script's folder {spec.code_folder.absolute()} holds {len(files):,} files, {size / 2**20:.0f} MiB:"
            " too much for code; name the data with --data, or leave files out with --exclude"
        )
    tree = hash_tree(spec.code_folder, "code", leave_out=leave_out, modes=True)
    # The hidden and excluded files may include the script itself.
    if spec.script.name not in (entry.path for entry in tree.entries):
        raise InputError(f"the script {spec.script} is left out as a hidden or excluded file; rename it")
    return tree


def hash_kept_code(run: RunDir, recorded: Code | None = None) -> Tree:
    """The tree of the code in a run's folder, without the caches that Python writes.

    It is hashed by the rule of the `recorded` code, which is read from the run's record if it is not given.
    """
    recorded = recorded or run.read().recipe.code
    return hash_tree(run.code, "code", leave_out=TreeFilter(patterns=_NOT_CODE), modes=recorded.modes)


def is_cache(path: str) -> bool:
    """Whether a file is one of the caches that Python writes beside its source."""
    return any(fnmatch.fnmatchcase(part, pattern) for part in path.split("/") for pattern in _NOT_CODE)


def copy_tree(source: Path, target: Path, tree: Tree) -> None:
    """Copy a tree of code, with one time for all files."""
    target.mkdir()
    for entry in tree.entries:
        path = target / entry.path
        if entry.digest is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / entry.path, path)
        # By the source where the tree holds no modes, as earlier versions copied them.
        executable = entry.executable if tree.modes else os.access(source / entry.path, os.X_OK)
        path.chmod(0o755 if executable else 0o644)
    _fix_times(target)


def _fix_times(target: Path) -> None:
    """Give all copied files and folders one time: a script must not find out when they were written."""
    for folder, _, files in os.walk(target, topdown=False):
        for path in (*(f"{folder}/{name}" for name in files), folder):
            os.utime(path, (_CODE_TIME, _CODE_TIME))
