"""The wheels for an image: one store by sha256 for all locks, and a folder of links into it for each lock."""

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from packaging.markers import Environment, Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from samebits.core.digest import Digest
from samebits.core.errors import ImageError, ToolError
from samebits.core.jsonio import storage_error
from samebits.host.cache_dir import cache_folder, exclusive
from samebits.host.console import elapsed_progress, log
from samebits.host.image.build_context import IMAGE_PYTHON, context_file
from samebits.host.image.lockfile import Pin, read_lock
from samebits.host.subprocesses import run_tool

_DRAFT = ".filling-"
_REQUIREMENTS, _LOG = "requirements.txt", "pip.log"  # in a draft folder, beside the wheels
# The names that platform tags had before `manylinux_2_N`, by N.
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
# Two failures in pip's log.
_ABSENT = re.compile(r"No matching distribution found for ([^=\s]+)==")
_MISMATCH = re.compile(r"DO NOT MATCH THE HASHES.*?\s([\w.-]+)==\S+ from (\S+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The CPython on Linux that wheels are chosen for; `glibc` is the newest 2.x that they may require."""

    python: tuple[int, int]
    machine: str = "x86_64"
    glibc: int = 28

    def __str__(self) -> str:
        return f"{self.abi}-manylinux_2_{self.glibc}_{self.machine}"

    @property
    def abi(self) -> str:
        """The ABI tag, such as `cp313`."""
        return f"cp{self.python[0]}{self.python[1]}"

    @property
    def platforms(self) -> list[str]:
        """The platform tags, the newest glibc first."""
        # manylinux_2_5 is the oldest tag; its predecessors are the names in _OLD_NAMES.
        minors = range(self.glibc, 4, -1)
        names = ((f"manylinux_2_{minor}", _OLD_NAMES.get(minor)) for minor in minors)
        return [f"{name}_{self.machine}" for pair in names for name in pair if name]

    @property
    def ranks(self) -> dict[Tag, int]:
        """Every tag that a wheel may have; the wheel with the lowest rank is preferred."""
        # The order of these lists is the order that pip prefers.
        own = cpython_tags(self.python, [self.abi], self.platforms)
        common = compatible_tags(self.python, self.abi, self.platforms)
        return {tag: rank for rank, tag in enumerate([*own, *common])}

    @property
    def environment(self) -> Environment:
        """The values that markers are evaluated with; Python's patch release counts as 0."""
        # A marker on the patch release would make the image depend on the base's updates.
        version = f"{self.python[0]}.{self.python[1]}"
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{version}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{version}.0",
            "python_version": version,
            "sys_platform": "linux",
        }

    def wants(self, marker: str | None) -> bool:
        """Whether a marker of the lock holds for this target."""
        return marker is None or Marker(marker).evaluate(cast("dict[str, str]", self.environment))


IMAGE_TARGET = Target(python=IMAGE_PYTHON)


def prepare_wheelhouse(lock: Path | None = None, target: Target = IMAGE_TARGET, *, offline: bool = False) -> Path:
    """A folder with exactly the wheels of a lock (None: this installation's) for a target; each is hashed again.

    Raises ImageError on other machines and if a wheel is not available, InputError for an invalid lock, ToolError for
    other failures of pip.
    """
    if platform.machine() != target.machine:
        # Wheels and base image exist for one kind of CPU only.
        wanted = f"images are built for {target.machine.replace('_', '-')} only"
        raise ImageError(f"{wanted}, and this machine is {platform.machine()}; use another machine")
    lock = lock or context_file("requirements.lock")
    pins = [pin for pin in read_lock(lock) if target.wants(pin.marker)]
    folder = cache_folder("wheelhouse") / f"{Digest.of_file(lock).hex[:16]}-{target}"
    store = _Store(cache_folder("wheels"), target, lock)
    with exclusive(store.root, "store"):
        try:
            _remove_drafts(store.root, folder.parent)
            store.adopt((lock.parent / "wheels").glob("*.whl"), pins)
            _link_all(store.wheels(pins, offline=offline), folder)
        except OSError as error:
            raise storage_error(error, Path(error.filename or store.root)) from error
    return folder


class _Store:
    """The wheels of all locks as `<sha256>/<filename>.whl`, for one target; the caller holds the store's lock.

    Files are not synced to the disk: damage by a power cut is found by the hash.

    `chosen/` records which wheel pip chose for each pin. Without it, a wheel that was downloaded for another Python
    could be used although pip knows a better one. The image would then depend on earlier builds. Offline, it is
    accepted.
    """

    def __init__(self, root: Path, target: Target, lock: Path) -> None:
        self.root = root
        self._target = target
        self._lock = lock
        self._ranks = target.ranks

    def adopt(self, built: Iterable[Path], pins: Sequence[Pin]) -> None:
        """Take the wheels that were built from source, and lie beside the lock, if it has their hashes."""
        for wheel in built:
            digest = Digest.of_file(wheel)
            place = self.root / digest.hex / wheel.name
            if any(digest in pin.hashes for pin in pins) and not (place.exists() and _is_intact(place)):
                place.parent.mkdir(exist_ok=True)
                shutil.copyfile(wheel, place)

    def wheels(self, pins: Sequence[Pin], *, offline: bool) -> list[Path]:
        """One wheel for each pin, with a matching hash; missing and corrupted wheels are downloaded."""
        found = {pin: self._usable(pin, offline=offline) for pin in pins}
        missing = [pin for pin, wheel in found.items() if wheel is None]
        if missing and offline:
            names = ", ".join(map(str, missing[:3])) + (", …" if missing[3:] else "")
            raise ImageError(f"{len(missing)} of the wheels of {self._lock.name} are missing: {names}; run once online")
        if missing:
            self._fetch(missing)
            found.update({pin: self._usable(pin, offline=False) for pin in missing})
        # This means a disk that loses writes, or a wheel that does not fit the target.
        lost = [str(pin) for pin, wheel in found.items() if wheel is None]
        if lost:
            raise ImageError(f"the wheel of {lost[0]} that pip downloaded cannot be used; check the index and the disk")
        return [wheel for wheel in found.values() if wheel is not None]

    def _usable(self, pin: Pin, *, offline: bool) -> Path | None:
        """The pin's best wheel, if its hash matches; a corrupted one is removed."""
        wheel = self._best(pin)
        # With one hash in the lock there is no choice that could depend on earlier builds.
        if wheel is None or not (offline or len(pin.hashes) == 1 or self._is_chosen(pin, wheel)):
            return None
        if _is_intact(wheel):
            return wheel
        if offline:
            raise ImageError(
                f"the wheel {wheel.name} in the wheelhouse is corrupted; run once online to download it again"
            )
        log(f"the wheel {wheel.name} in the wheelhouse was corrupted; downloading it again")
        wheel.unlink()
        return None

    def _best(self, pin: Pin) -> Path | None:
        """The wheel in the store that pip would choose: the best tag, then the highest build number."""
        present = {digest.hex for digest in pin.hashes} & set(os.listdir(self.root))
        files = (file for name in sorted(present) for file in sorted((self.root / name).glob("*.whl")))
        ranked = [(rank, file) for file in files if (rank := self._rank(file.name, pin)) is not None]
        return max(ranked)[1] if ranked else None

    def _rank(self, filename: str, pin: Pin) -> tuple[int, tuple[int, str] | tuple[()]] | None:
        """Higher is better; None for another package or version, or another Python or platform."""
        try:
            name, version, build, tags = parse_wheel_filename(filename)
        except InvalidWheelFilename:
            return None
        # A file name may hold several tags, such as py2.py3-none-any. The best of them counts.
        ranks = [self._ranks[tag] for tag in tags if tag in self._ranks]
        if name != pin.name or version != Version(pin.version) or not ranks:
            return None
        return -min(ranks), build

    def _choice(self, pin: Pin) -> Path:
        """The file with the sha256 of the wheel that pip chose for this pin and target."""
        # The hashes belong to the key: a lock that allows other files is another question to pip.
        key = [str(self._target), str(pin), sorted(digest.hex for digest in pin.hashes)]
        return self.root / "chosen" / Digest.of_json(key).hex

    def _is_chosen(self, pin: Pin, wheel: Path) -> bool:
        path = self._choice(pin)
        return path.exists() and path.read_text(errors="replace") == wheel.parent.name

    def _fetch(self, pins: Sequence[Pin]) -> None:
        """Let pip download the wheels of these pins, and store those whose hashes are in the lock."""
        what = f"downloading {len(pins)} wheel{'s' if pins[1:] else ''}"
        with elapsed_progress(what), tempfile.TemporaryDirectory(dir=self.root, prefix=_DRAFT) as name:
            draft = Path(name)
            # The draft is inside the store, so that a wheel is moved, not copied.
            (draft / _REQUIREMENTS).write_text("".join(map(_requirement_line, pins)))
            try:
                run_tool(_download_command(draft, self._target), what="downloading the locked wheels")
            except ToolError as error:
                raise self._explain(draft / _LOG, pins) or error from error
            downloaded = {_package_name(file): file for file in draft.glob("*.whl")}
            for pin in pins:
                self._store(pin, downloaded.get(pin.name))

    def _store(self, pin: Pin, file: Path | None) -> None:
        """Move a downloaded wheel to its place, and record it as pip's choice."""
        if file is None:
            raise ImageError(f"pip downloaded no wheel of {self._place(pin)}; check the lock and the index")
        digest = Digest.of_file(file)
        if digest not in pin.hashes:
            raise self._mismatch(pin, file.name)
        place = self.root / digest.hex / file.name
        place.parent.mkdir(exist_ok=True)
        # A file that is right is left alone, because hard links to it may be in use.
        if not place.exists() or not _is_intact(place):
            file.chmod(0o444)
            file.replace(place)
        if best := self._best(pin):
            (self.root / "chosen").mkdir(exist_ok=True)
            self._choice(pin).write_text(best.parent.name)

    def _explain(self, log: Path, pins: Sequence[Pin]) -> ImageError | None:
        """Pip's failure as one line, if it is about a pin."""
        text = log.read_text(errors="replace") if log.exists() else ""
        # pip writes the names of packages in several spellings.
        by_name = {pin.name: pin for pin in pins}
        # pip prints several lines for one cause; these two patterns name the pin.
        wrong, absent = _MISMATCH.search(text), _ABSENT.search(text)
        if wrong and (pin := by_name.get(canonicalize_name(wrong[1]))):
            return self._mismatch(pin, wrong[2].rpartition("/")[2].partition("#")[0])
        if absent and (pin := by_name.get(canonicalize_name(absent[1]))):
            # pip gives the same error for an unreachable index and for a missing wheel.
            advice = "check your network" if "connection broken" in text else "check the lock and the index"
            return ImageError(f"no index has a wheel of {self._place(pin)} for {self._target}; {advice}")
        return None

    def _mismatch(self, pin: Pin, filename: str) -> ImageError:
        return ImageError(
            f"the index's {filename} has none of the hashes of {self._place(pin)}; trust neither until you know why"
        )

    def _place(self, pin: Pin) -> str:
        return f"{pin} ({self._lock.name}:{pin.line})"


def _download_command(draft: Path, target: Target = IMAGE_TARGET) -> list[str]:
    """The call of pip that downloads into a draft folder the wheels for the requirements file in it."""
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes"),
        *("--no-deps", "--only-binary", ":all:", "--implementation", "cp", "--python-version", target.abi[2:]),
        *("--abi", target.abi, "--abi", "abi3", "--abi", "none"),
        *(part for name in target.platforms for part in ("--platform", name)),
        *("--log", str(draft / _LOG), "--dest", str(draft), "-r", str(draft / _REQUIREMENTS)),
    ]


def _link_all(wheels: Iterable[Path], folder: Path) -> None:
    """Make `folder` hold these wheels only; a new folder appears at once, an old one is changed file by file."""
    wanted = {wheel.name: wheel for wheel in wheels}
    present = set(os.listdir(folder)) if folder.exists() else set()
    # An unchanged folder is left alone, since another build may be reading it.
    wrong = [wheel for name, wheel in wanted.items() if name not in present or not _is_same_wheel(folder / name, wheel)]
    if folder.exists() and not wrong and present == set(wanted):
        return
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_DRAFT) as name:
        draft = Path(name) / "wheels"
        draft.mkdir()
        for wheel in wrong:
            link_or_copy(wheel, draft / wheel.name)
        if not folder.exists():
            draft.rename(folder)
            return
        # Moved away, not unlinked: the draft folder and all in it are removed together.
        for extra in present - set(wanted):
            (folder / extra).rename(Path(name) / f"extra-{extra}")
        for wheel in wrong:
            (draft / wheel.name).replace(folder / wheel.name)


def link_or_copy(wheel: Path, place: Path) -> None:
    """Hard-link a wheel, or copy it if the file system has no hard links."""
    try:
        os.link(wheel, place)
    except OSError:
        shutil.copyfile(wheel, place)


def _is_same_wheel(file: Path, wheel: Path) -> bool:
    """Whether a file in a lock's folder is the store's wheel, or a copy of it."""
    return file.is_file() and (file.samefile(wheel) or Digest.of_file(file).hex == wheel.parent.name)


def _is_intact(wheel: Path) -> bool:
    """Whether a wheel in the store has the sha256 that its folder is named by."""
    return Digest.of_file(wheel).hex == wheel.parent.name


def _remove_drafts(*folders: Path) -> None:
    """Remove what a killed process left; no other process is at work, because the caller holds the store's lock."""
    for folder in folders:
        for draft in folder.glob(f"{_DRAFT}*"):
            shutil.rmtree(draft)


def _package_name(wheel: Path) -> str:
    return canonicalize_name(wheel.name.partition("-")[0])


def _requirement_line(pin: Pin) -> str:
    """A pin for pip, without its marker: pip would evaluate it for the Python that runs pip, not for the target."""
    return f"{pin} {' '.join(sorted(f'--hash={digest}' for digest in pin.hashes))}\n"
