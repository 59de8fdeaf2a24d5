"""Where a script's project begins, and how Python starts the script in it: folders and import path."""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import InputError, reason_of
from samebits.core.notebook import is_notebook
from samebits.core.recipe import Code
from samebits.core.toml_file import read_toml

CONFIG_NAME = "samebits.toml"
_PROJECT = "pyproject.toml"
_MARKERS = (_PROJECT, CONFIG_NAME, ".git")
_OLDER_PROJECTS = ("setup.py", "setup.cfg")


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeLayout:
    """The code's folder and, relative to it, the file that starts, the working folder and the import path.

    `module` is the name for `python -m`, else None.
    """

    folder: Path
    entry: str
    workdir: str
    pythonpath: tuple[str, ...] = ()
    module: str | None = None

    @classmethod
    def of_recorded(cls, folder: Path, code: Code) -> "CodeLayout":
        """The layout of recorded code, which is in `folder`."""
        return cls(
            folder=folder, entry=code.entry, workdir=code.workdir, pythonpath=code.pythonpath, module=code.module
        )

    def describe(self, tree: Digest, arguments: tuple[str, ...], *, modes: bool) -> Code:
        """The code as the recipe has it."""
        code = Code(tree=tree, entry=self.entry, arguments=arguments, modes=modes, module=self.module)
        chosen = None if self.workdir == code.workdir else self.workdir
        return replace(code, chosen_workdir=chosen, pythonpath=self.pythonpath)


def find_root(folder: Path) -> Path:
    """The nearest folder from `folder` up that begins a project; `folder` itself where there is none.

    Neither the home folder nor `/` begins one, nor does a folder that anyone may write to.
    """
    here, home = Path(os.path.abspath(folder)), os.path.realpath(os.path.expanduser("~"))
    for candidate in (here, *here.parents):
        # A home folder may be under version control; it is no project.
        if candidate == candidate.parent or os.path.realpath(candidate) == home:
            break
        # In a folder such as /tmp, another user may have put the file there.
        if root_marker(candidate) is not None and not _is_shared(candidate):
            # As it was given where nothing was looked up: that is how messages name it.
            return folder if candidate == here else candidate
    return folder


def root_marker(folder: Path) -> str | None:
    """The file or folder that makes a folder the beginning of a project."""
    return next((name for name in _MARKERS if os.path.lexists(folder / name)), None)


def _is_shared(folder: Path) -> bool:
    return bool(os.stat(folder).st_mode & stat.S_IWOTH)


def script_layout(script: Path, root: Path, workdir: Path | None, pythonpath: Iterable[Path] | None) -> CodeLayout:
    """Start a script by its path. It runs in its own folder, as `cd FOLDER; python SCRIPT` would, unless told."""
    entry = _inside(script, root, "the script") + (".py" if is_notebook(script) else "")
    # Python's own import path begins with the script's folder, so that one is not added again.
    own = str(Path(entry).parent)
    paths = _import_path(root, own) if pythonpath is None else _folders(pythonpath, root)
    return CodeLayout(
        folder=root,
        entry=entry,
        workdir=own if workdir is None else _folder(workdir, root, "the working folder"),
        pythonpath=tuple(path for path in paths if path != own),
    )


def module_layout(module: str, root: Path, workdir: Path | None, pythonpath: Iterable[Path] | None) -> CodeLayout:
    """Start a module by its name, as `python -m MODULE` in the working folder would."""
    here = Path.cwd() if workdir is None else workdir
    # With --code elsewhere, the current folder says nothing.
    outside = workdir is None and not Path(os.path.abspath(here)).is_relative_to(os.path.abspath(root))
    folder = "." if outside else _folder(here, root, "the working folder")
    paths = _import_path(root, folder) if pythonpath is None else _folders(pythonpath, root)
    entry, name = _find_module(module, root, (folder, *paths))
    return CodeLayout(folder=root, entry=entry, workdir=folder, pythonpath=paths, module=name)


def _find_module(module: str, root: Path, paths: tuple[str, ...]) -> tuple[str, str]:
    """The file of a module in the code, and its full name; nothing is imported."""
    if not all(part.isidentifier() for part in module.split(".")):
        raise InputError(f"{module!r} is not a module's name; write it as in samebits train -m package.module")
    parts = module.split(".")
    for path in paths:
        base = Path(path, *parts)
        for file, name in ((base.with_name(f"{parts[-1]}.py"), module), (base / "__main__.py", f"{module}.__main__")):
            if os.path.isfile(root / file):
                return file.as_posix(), name
    shown = ", ".join(dict.fromkeys(str(root / path) for path in paths))
    raise InputError(f"there is no module {module} in {shown}; run it from the folder that holds it, or set pythonpath")


def _import_path(root: Path, own: str) -> tuple[str, ...]:
    """The folder that an editable installation of the project would put on the import path, if there is one."""
    if not _is_installable(root):
        return ()
    found = next((path for path in ("src", ".") if _holds_package(root / path)), own)
    return () if found == own else (found,)


def _is_installable(root: Path) -> bool:
    if any(os.path.isfile(root / name) for name in _OLDER_PROJECTS):
        return True
    try:
        values = read_toml(root / _PROJECT)
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {root / _PROJECT}: {reason_of(error)}; fix or remove the file") from error
    tool = values.get("tool")
    # Many files of that name only configure a formatter.
    return any(name in values for name in ("project", "build-system")) or (isinstance(tool, dict) and "poetry" in tool)


def _holds_package(folder: Path) -> bool:
    try:
        return any(os.path.isfile(entry / "__init__.py") for entry in folder.iterdir())
    except OSError:
        return False


def _folders(paths: Iterable[Path], root: Path) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_folder(path, root, "pythonpath") for path in paths))


def _folder(path: Path, root: Path, what: str) -> str:
    relative = _inside(path, root, what)
    if not os.path.isdir(path):
        raise InputError(f"{what} {path} is not a folder; name a folder of the code")
    return relative


def _inside(path: Path, root: Path, what: str) -> str:
    """The path relative to the code's folder; raises InputError where it lies elsewhere."""
    full, base = (Path(os.path.abspath(item)) for item in (path, root))
    if not full.is_relative_to(base):
        raise InputError(f"{what} {path} is not in the code's folder {root}; name a folder around it with --code")
    return full.relative_to(base).as_posix()
