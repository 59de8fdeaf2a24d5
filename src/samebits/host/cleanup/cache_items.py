"""What the cache holds and can be made or fetched again: environments, wheels, sources, inputs, unfinished work."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from samebits.core.errors import StorageError, pluralize
from samebits.core.jsonio import storage_error
from samebits.host.cache_dir import UNPACKED, cache_folder, exclusive
from samebits.host.cleanup.item import Item, disk_size, last_use, seconds_ago
from samebits.host.cleanup.run_needs import RunNeeds, needed_by

_FETCHED = "fetched again by `samebits fetch`, as long as its source exists"
_UNFINISHED_DAYS = 1.0  # no installation and no copy takes longer


def cache_items(needs: RunNeeds, processes: str) -> Iterator[Item]:
    """Every item of the cache. `processes` are the command lines and variables of this user's running programs."""
    yield from _environments(needs, processes)
    yield from _unpacked_images(needs, processes)
    yield from _wheelhouses(needs)
    yield from _loose_wheels()
    yield from _sources(processes)
    yield from _inputs(needs)
    yield from _bases()
    yield from _computed()
    yield from _unfinished()


def running_programs(root: Path = Path("/proc")) -> str:
    """Command lines and variables of this user's programs, in which the paths that they use stand."""
    found = []
    for process in root.glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                found.append((process / name).read_bytes().decode("utf-8", "replace"))
            except OSError:
                continue
    return "\0".join(found)


def remove_tree(folder: Path) -> None:
    """Remove a folder; it loses its name first, so that nobody finds half of it. Raises StorageError."""
    gone = folder.with_name(f".draft-removed-{folder.name}-{os.getpid()}")
    try:
        folder.rename(gone)
        shutil.rmtree(gone)
    except OSError as error:
        raise storage_error(error, folder) from error


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _lock_time(root: Path, name: str) -> float | None:
    """When a folder of the cache was asked for last: each use takes its lock, which is opened for writing."""
    try:
        return (root / f".{name}.lock").stat().st_mtime
    except OSError:
        return None


def _remove_locked(root: Path, name: str, used: float | None, after: Callable[[], None] = lambda: None) -> None:
    with exclusive(root, name, using=False):
        _require_unused(root, name, used)
        if (root / name).exists():
            remove_tree(root / name)
    after()


def _require_unused(root: Path, name: str, used: float | None) -> None:
    """Raise StorageError where a folder is in use, or was used since it was listed: its user may start any moment."""
    if (used is not None and _lock_time(root, name) != used) or _busy(root / name, running_programs()):
        raise StorageError("it was used since it was listed; list again")


def _environments(needs: RunNeeds, processes: str) -> Iterator[Item]:
    root = cache_folder("venvs")
    for path in _folders(root):
        used = _lock_time(root, path.name)
        yield Item(
            kind="virtual environment",
            name=path.name,
            size=disk_size(path),
            used=used,
            needed=needed_by(needs.environments.get(path.name.partition("-")[0])),
            busy=_busy(path, processes),
            again="made again from its lock, with network",
            remove=partial(_remove_locked, root, path.name, used),
        )


def _unpacked_images(needs: RunNeeds, processes: str) -> Iterator[Item]:
    root = cache_folder(UNPACKED)
    for path in _folders(root):
        used = _lock_time(root, path.name)
        yield Item(
            kind="unpacked image",
            name=path.name[:16],
            size=disk_size(path),
            used=used,
            needed=needed_by(needs.images.get(f"sha256:{path.name}")),
            busy=_busy(path, processes),
            again="unpacked again from Docker, a registry or an archive",
            remove=partial(_remove_locked, root, path.name, used),
        )


def _busy(path: Path, processes: str) -> str:
    return "a running program uses it" if f"{path.resolve()}/" in processes or f"{path}/" in processes else ""


def _wheelhouses(needs: RunNeeds) -> Iterator[Item]:
    root, wheels = cache_folder("wheelhouse"), cache_folder("wheels")
    for path in _folders(root):
        yield Item(
            kind="wheels of a lock",
            name=path.name,
            size=disk_size(path),
            used=last_use(path),
            needed=needed_by(needs.locks.get(path.name.partition("-")[0])),
            again="downloaded again by hash; an offline build needs them",
            remove=partial(_remove_wheelhouse, path, wheels),
        )


def _loose_wheels() -> Iterator[Item]:
    """Wheels that no folder of a lock has any more."""
    store = cache_folder("wheels")
    yield from _loose(
        "wheels of no lock", store.rglob("*.whl"), "downloaded again by hash", partial(_remove_loose, store)
    )


def _loose(kind: str, files: Iterable[Path], again: str, remove: Callable[[set[int]], None]) -> Iterator[Item]:
    """The files that no other folder has; `remove` gets their inodes."""
    loose = [path for path in files if os.lstat(path).st_nlink == 1]
    if loose:
        yield Item(
            kind=kind,
            name=pluralize(len(loose), "file"),
            size=sum(map(disk_size, loose)),
            used=max(map(last_use, loose)),
            again=again,
            remove=partial(remove, {os.lstat(path).st_ino for path in loose}),
        )


def _remove_loose(store: Path, inodes: set[int]) -> None:
    with exclusive(store, "store"):
        _unlink_last(store, inodes)


def _remove_wheelhouse(folder: Path, wheels: Path) -> None:
    """Remove the links to the wheels of a lock, and the wheels that no other lock has."""
    with exclusive(wheels, "store"):
        names = {os.stat(wheel).st_ino for wheel in folder.iterdir()}
        remove_tree(folder)
        _unlink_last(wheels, names)


def _unlink_last(store: Path, inodes: set[int]) -> None:
    """Remove files of a store that were in a removed folder and have no other name."""
    for path in store.rglob("*"):
        at = os.lstat(path)
        if at.st_ino in inodes and at.st_nlink == 1:
            path.unlink()


def _sources(processes: str) -> Iterator[Item]:
    for name, lock in (("source", "stage"), ("received", "")):
        root = cache_folder(name)
        for path in _folders(root):
            used = None if lock else _lock_time(root, path.name)
            yield Item(
                kind="copy of samebits's source",
                name=f"{name}/{path.name}",
                size=disk_size(path),
                used=last_use(path) if lock else used,
                busy=_busy(path, processes),
                again="copied again at the next use",
                remove=partial(_remove_source, root, path.name, lock or path.name, used),
            )


def _remove_source(root: Path, name: str, lock: str, used: float | None) -> None:
    with exclusive(root, lock, using=False):
        _require_unused(root, name, used)
        if (root / name).exists():
            remove_tree(root / name)
            (root / f".{name}.sha256").unlink(missing_ok=True)


def _inputs(needs: RunNeeds) -> Iterator[Item]:
    root = cache_folder("inputs")
    trees, objects = root / "trees", root / "objects"
    for path in _folders(trees) if trees.is_dir() else ():
        used = _lock_time(trees, path.name)
        yield Item(
            kind="inputs of a lock",
            name=path.name[:16],
            size=disk_size(path),
            used=used,
            needed=needed_by(needs.inputs.get(path.name)),
            again=_FETCHED,
            remove=partial(_remove_inputs, trees, path, objects, used),
        )
    files = objects.iterdir() if objects.is_dir() else ()
    yield from _loose("inputs of no lock", files, _FETCHED, partial(_unlink_last, objects))


def _remove_inputs(trees: Path, folder: Path, objects: Path, used: float | None) -> None:
    names = {os.lstat(path).st_ino for path in folder.rglob("*") if path.is_file()}
    _remove_locked(trees, folder.name, used, partial(_unlink_last, objects, names))


def _bases() -> Iterator[Item]:
    for path in sorted(cache_folder("bases").glob("*.tar")):
        yield Item(
            kind="archived base image",
            name=path.name,
            size=disk_size(path),
            used=last_use(path),
            needed="made by `samebits archive-base`",
            again="only as long as its registry has it",
            remove=partial(_remove_base, path),
        )


def _remove_base(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_suffix(".json").unlink(missing_ok=True)


def _computed() -> Iterator[Item]:
    for folder, kind, command in (
        ("lists", "index of a folder of runs", "samebits list"),
        ("data", "digests of a data folder", "samebits train --data-cache"),
    ):
        for path in sorted(cache_folder(folder).iterdir()):
            yield Item(
                kind=kind,
                name=path.name,
                size=disk_size(path),
                used=last_use(path),
                again=f"made again by `{command}`",
                remove=partial(_remove_any, path),
            )


def _unfinished() -> Iterator[Item]:
    """What interrupted installations, copies and downloads have left."""
    drafts = [
        path
        for name in ("venvs", "source", "received", "inputs", UNPACKED)
        for path in cache_folder(name).glob(".draft-*")
    ]
    inputs = cache_folder("inputs")
    drafts += [*(inputs / "trees").glob(".draft-*"), *(inputs / "partial").glob("*")]
    for path in _before(drafts, seconds_ago(_UNFINISHED_DAYS)):
        yield Item(
            kind="unfinished work",
            name=path.name,
            size=disk_size(path),
            used=0.0,
            again="not needed",
            remove=partial(_remove_any, path),
        )


def _before(paths: Iterable[Path], limit: float) -> Iterator[Path]:
    for path in paths:
        try:
            if max(path.lstat().st_mtime, path.lstat().st_ctime) < limit:
                yield path
        except OSError:
            continue


def _remove_any(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error
