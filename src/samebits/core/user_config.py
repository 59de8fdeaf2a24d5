"""What only the user may choose, and a project's `samebits.toml` may not: where a script runs, and what it may reach.

A project may come from someone else. So its file names no runtime and no image, and neither data nor runs outside of
the project. The command line does, and the user's own `~/.config/samebits/config.toml`.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from samebits.core.errors import InputError, RecordError, reason_of
from samebits.core.jsonio import Fields
from samebits.core.toml_file import read_toml

USERS_OWN = ("data-cache", "image", "runtime")
_INSIDE = ("data", "runs")
_LIMITS = ("cpus", "max-disk", "max-hours", "memory", "pids", "tmp-size")
_KINDS: dict[str, type] = {"cpus": float, "data-cache": bool, "max-hours": float, "pids": int}
_LEAST = {"cpus": 0.01, "max-hours": 0.001, "pids": 1}
_ELSEWHERE = "on"  # a table that `host/cluster` reads
_KNOWN = ("image", "runs", "runtime", "data-cache", *_LIMITS, _ELSEWHERE)


def config_path() -> Path:
    """`$XDG_CONFIG_HOME/samebits/config.toml`, else `~/.config/samebits/config.toml`."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "samebits" / "config.toml"


def key_path() -> Path:
    """Where the user's own key is, beside the configuration: no code's folder holds it. Raises InputError."""
    try:
        return config_path().with_name("samebits.key")
    except RuntimeError as error:
        raise InputError("there is no home folder for the key; name its file with -o") from error


def read_user_config() -> dict[str, Any]:
    """The options in the user's own file; empty if there is none. Raises InputError."""
    try:
        path = config_path()
    except RuntimeError:  # there is no home
        return {}
    # The user's own file may well be a link into another folder.
    return read_options(path, _options, absent=(FileNotFoundError, NotADirectoryError), anywhere=True)


def read_options(
    path: Path,
    parse: Callable[[Fields, Path], dict[str, Any]],
    absent: tuple[type[OSError], ...] = (FileNotFoundError,),
    *,
    anywhere: bool = False,
) -> dict[str, Any]:
    """The options of a TOML file, by a function of its values and its folder; empty if it is absent.

    `anywhere` is as in `read_given`. Raises InputError, which names the file.
    """
    try:
        values = read_toml(path, anywhere=anywhere)
    except absent:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {reason_of(error)}; fix or remove the file") from error
    try:
        return parse(Fields(values), path.parent)
    except RecordError as error:
        raise InputError(f"{path}: {error}") from error


def user_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """The user's own options below those of the command line."""
    given = read_user_config().items()
    found = {name.replace("-", "_"): value for name, value in given if name not in _LIMITS}
    # Who names an image means a container, whatever the usual runtime is.
    if options.get("image") is not None:
        found.pop("runtime", None)
    return found


def _options(values: Fields, folder: Path) -> dict[str, Any]:
    unknown = sorted(values.names() - set(_KNOWN))
    if unknown:
        raise RecordError(f"unknown key {unknown[0]!r}; it may hold {', '.join(_KNOWN)}")
    found: dict[str, Any] = {
        name: values.get(name, _KINDS.get(name, str)) for name in values.given() if name != _ELSEWHERE
    }
    for name, least in _LEAST.items():
        # Also where it is not a number.
        if name in found and not least <= found[name] < 2**31:
            raise RecordError(f"'{name}' must be {least} or more, not {found[name]}")
    return found | ({"runs": folder / Path(found["runs"]).expanduser()} if "runs" in found else {})


def refuse_users_own(names: Iterable[str]) -> None:
    """Raise RecordError for an option that a project may not set."""
    for name in sorted(names):
        if name in USERS_OWN:
            raise RecordError(f"'{name}' is not for a project to choose; use --{name}, or put it into {config_path()}")


def require_inside(project: dict[str, Any], folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a project's options; raises InputError for data or runs outside of the project, also behind a link.

    What the command line names instead (`options`) may be anywhere.
    """
    root = os.path.realpath(folder)
    for name in _INSIDE:
        path = project.get(name) if options.get(name) is None else None
        if path is not None and not Path(os.path.realpath(path)).is_relative_to(root):
            raise InputError(f"the project's samebits.toml names {name} outside of the project, {path}; use --{name}")
    return project
