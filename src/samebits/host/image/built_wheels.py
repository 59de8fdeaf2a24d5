"""Wheels that were built from source once: kept beside the lock, in `wheels/`, and pinned there by their hash.

How a wheel was built does not matter from then on: whoever has the project has the wheel, and so has each run.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from samebits.core.code_tree import FILE_TIME
from samebits.core.digest import Digest
from samebits.core.errors import InputError, reason_of
from samebits.core.jsonio import parse_json, readable_json, write_atomically
from samebits.core.run_files import read_given
from samebits.host.console import elapsed_progress
from samebits.host.image.lockfile import Pin
from samebits.host.interpreters import Interpreter
from samebits.host.subprocesses import run_tool

FOLDER = "wheels"
MAX_BYTES = 16 << 20
"""Of one wheel: each run that uses it keeps a copy."""

_SOURCES = "sources.json"
_COMMIT = re.compile(r"git\+\S+@[0-9a-f]{40}")


def _name_and_version(wheel: Path) -> tuple[str, str]:
    """By a wheel's file name; raises InputError for a file that is called otherwise."""
    try:
        name, version, *_ = parse_wheel_filename(wheel.name)
    except ValueError as error:
        raise InputError(f"{wheel} is not named like a wheel: {error}; remove it") from error
    return str(name), str(version)


def is_pinned(url: str) -> bool:
    """Whether a URL of a requirement is a repository at a commit, which never changes."""
    return _COMMIT.fullmatch(url.partition("#")[0]) is not None


def built_wheels(lock: Path) -> tuple[Path, ...]:
    """The wheels that are kept beside a lock."""
    return tuple(sorted((lock.parent / FOLDER).glob("*.whl")))


def wheels_of(lock: Path, pins: Iterable[Pin]) -> tuple[Path, ...]:
    """Those of them that the lock pins."""
    pinned = {digest for pin in pins for digest in pin.hashes}
    return tuple(wheel for wheel in built_wheels(lock) if Digest.of_file(wheel) in pinned)


def build_wheel(requirement: Requirement, lock: Path, interpreter: Interpreter) -> Path:
    """Build the wheel of a source distribution or a repository, in place of an earlier one; runs its code here."""
    name = canonicalize_name(requirement.name)
    folder = lock.parent / FOLDER
    what = f"building {name} from source"
    with elapsed_progress(what), tempfile.TemporaryDirectory(prefix="samebits-wheel-") as made:
        variables = {**interpreter.tools, "SOURCE_DATE_EPOCH": str(FILE_TIME), "PIP_NO_INPUT": "1"}
        command = (str(interpreter.path), "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps")
        options = ("--no-cache-dir", "--no-binary", name, "--wheel-dir", made, str(requirement))
        run_tool([*command, *options], what=what, variables=variables)
        (wheel,) = Path(made).glob("*.whl")
        if wheel.stat().st_size > MAX_BYTES:
            raise InputError(f"the wheel of {name} has more than {MAX_BYTES >> 20} MiB; publish it on an index instead")
        folder.mkdir(exist_ok=True)
        for old in built_wheels(lock):
            if _name_and_version(old)[0] == name:
                old.unlink()
        place = Path(shutil.copy(wheel, folder))
    _note(folder, {name: requirement.url or f"{name}, from its source distribution"})
    return place


def sources(lock: Path) -> dict[str, str]:
    """What each kept wheel was built from, by name."""
    path = lock.parent / FOLDER / _SOURCES
    try:
        found = parse_json(read_given(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {reason_of(error)}; remove the folder, and lock again") from error
    return {str(name): str(source) for name, source in found.items()} if isinstance(found, dict) else {}


def _note(folder: Path, new: dict[str, str]) -> None:
    known = sources(folder / os.pardir / "requirements.lock") | new
    there = {_name_and_version(wheel)[0] for wheel in folder.glob("*.whl")}
    kept = {name: source for name, source in known.items() if name in there}
    write_atomically(folder / _SOURCES, readable_json(dict(sorted(kept.items()))))


def as_pin(requirement: Requirement, lock: Path) -> Requirement:
    """A requirement on a repository as one on the version of its wheel; raises InputError where that is not built."""
    name = canonicalize_name(requirement.name)
    found = dict(map(_name_and_version, built_wheels(lock)))
    if name not in found or sources(lock).get(name) != requirement.url:
        raise InputError(
            f"{requirement.name} comes from {requirement.url}, and its wheel is not built yet; `samebits lock --build"
            f" {requirement.name}` builds and keeps it, which runs its code on this machine"
        )
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    marker = f"; {requirement.marker}" if requirement.marker else ""
    return Requirement(f"{requirement.name}{extras}=={found[name]}{marker}")


def pin_built(text: str, lock: Path) -> str:
    """A lock's text in which every package with a kept wheel of its version has the hash of that wheel alone."""
    for wheel in built_wheels(lock):
        name, version = _name_and_version(wheel)
        pin = rf"^{re.escape(name)}=={re.escape(version)}(?: ;[^\\\n]*)?"
        block = re.compile(rf"({pin} \\\n)(?:    --hash=\S+(?: \\)?\n)+", re.MULTILINE)
        text = block.sub(rf"\1    --hash={Digest.of_file(wheel)}\n", text)
    return text
