"""Is the software in this process what the recipe names? Checked before the first step, by name."""

import functools
import importlib.metadata
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

import samebits
from samebits.core.digest import Digest
from samebits.core.environment import Mount
from samebits.core.errors import InputError, shorten
from samebits.core.jsonio import differing_names
from samebits.core.recipe import ImageIdentity
from samebits.core.source_digest import LOCK_PATH, PACKAGES_PATH, context_source_digest

# This module's own source lies in the build context, as <context>/source/samebits.
CONTEXT = Path(samebits.__file__).parents[2]

_SOFTWARE_FOLDERS = (
    *("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/opt/samebits", "/sbin", "/usr"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload"),
)
_OF_ENGINES = re.compile(r"/(usr/)?s?bin/(docker-init|tini|podman-init|catatonit)")
_OF_EVERY_CONTAINER = ("/dev", "/proc", "/sys", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv")
_OURS = ("/data", "/inputs", "/runs", "/tmp", "/work")  # noqa: S108  inside the container
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def check_software(recipe: ImageIdentity) -> None:
    """Raise InputError where Python, packages or the runner's own source differ from the recipe's."""
    _check_python(recipe)
    locks = {"lock": CONTEXT / LOCK_PATH, "packages": CONTEXT / PACKAGES_PATH}
    if not os.path.lexists(locks["packages"]):
        del locks["packages"]
    try:
        found = {what: Digest.of_file(path) for what, path in locks.items()}
        found["source"] = context_source_digest(CONTEXT, compiled=False)
    except OSError as error:
        raise InputError(f"cannot read what the runner was made from: {error}; rebuild image or environment") from error
    wanted = {"lock": recipe.lock, "packages": recipe.packages, "source": recipe.source}
    for what, digest in wanted.items():
        if found.get(what) != digest:
            raise InputError(
                f"the {what} beside the running code is {found.get(what, 'not there')}, and the recipe names"
                f" {digest or 'none'}; rebuild image or environment"
            )
    text = "\n".join(path.read_text(encoding="utf-8") for path in locks.values())
    different = differing_packages(text, distributions())
    if different:
        raise InputError(f"packages are not those of the lock: {shorten(different, 3)}; rebuild image or environment")
    _check_customization()


def _check_python(recipe: ImageIdentity) -> None:
    found = platform.python_version()
    if sys.implementation.name != "cpython":
        raise InputError(f"the interpreter is {sys.implementation.name}, and every recipe means CPython; use that")
    # An image's Python belongs to its base.
    if recipe.python is not None and recipe.python != found:
        raise InputError(f"the interpreter is Python {found}, and the recipe names {recipe.python}; use that one")
    if sys.flags.optimize:
        raise InputError("Python runs with -O, which drops assertions and is part of no recipe; run without")


def differing_packages(lock: str, installed: Mapping[str, str]) -> list[str]:
    """How the installed packages differ from the pins of a lock, a text for each."""
    pins = {name.lower().replace("_", "-"): version for name, version in _PIN.findall(lock)}
    return [
        f"{name} {installed.get(name, 'is missing')} (locked: {pins.get(name, 'not at all')})"
        for name in differing_names(pins, installed)
    ]


@functools.cache
def distributions() -> dict[str, str]:
    """Name and version of every installed distribution."""
    # Each `metadata` reads and parses the file again, and `version` does so, too.
    found = (item.metadata for item in importlib.metadata.distributions())
    return dict(sorted((item["Name"].lower().replace("_", "-"), item["Version"]) for item in found))


def foreign_compiled_code() -> list[str]:
    """What brought compiled modules that are loaded, other than Python, the base lock and samebits."""
    base = {
        name.lower().replace("_", "-") for name, _ in _PIN.findall((CONTEXT / LOCK_PATH).read_text(encoding="utf-8"))
    }
    library = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    owners = importlib.metadata.packages_distributions()
    found = set()
    for name, path in _compiled_modules():
        top = name.partition(".")[0]
        owner = next((item.lower().replace("_", "-") for item in owners.get(top, ())), top)
        # A package lies in a folder of the standard library in some installations.
        if owner not in base and (top in owners or not path.startswith(library)):
            found.add(owner)
    return sorted(found)


def _compiled_modules() -> Iterator[tuple[str, str]]:
    """Name and file of every compiled module that is loaded."""
    for name, module in tuple(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and path.endswith(".so"):
            yield name, path


def _check_customization() -> None:
    """Raise InputError where a `sitecustomize` ran that did not come with Python."""
    library = os.path.realpath(sysconfig.get_path("stdlib"))
    path = getattr(sys.modules.get("sitecustomize"), "__file__", None)
    # Linux distributions ship one in the standard library, some as a link to /etc; that belongs to the interpreter.
    if path is not None and os.path.realpath(os.path.dirname(path)) != library:
        raise InputError(f"{path} ran before the script and is part of no recipe; remove it")


def read_mounts(table: str | None = None) -> tuple[Mount, ...]:
    """The mounts of this container that are neither the engine's nor a run's; `table` is a `mountinfo`."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace") if table is None else table
    return tuple(mount for mount in _mounts(text) if not _is_expected(mount.target))


def is_bound(folder: str) -> bool:
    """Whether a folder is one of another file system, and not an empty one in memory."""
    table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    return any(mount.target == folder and mount.kind != "tmpfs" for mount in _mounts(table))


def _mounts(table: str) -> Iterator[Mount]:
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        # Spaces and the like are written as octal numbers. The source is left out: it is a path of the host.
        target = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[4])
        yield Mount(target=target, kind=after.split(" ")[0], read_only="ro" in fields[5].split(","))


def _is_expected(target: str) -> bool:
    if target == "/" or _OF_ENGINES.fullmatch(target):
        return True
    return target in _OURS or target.startswith("/runs/") or _is_below(target, _OF_EVERY_CONTAINER)


def _is_below(target: str, folders: tuple[str, ...]) -> bool:
    return any(target == folder or target.startswith(f"{folder}/") for folder in folders)


def check_mounts(mounts: tuple[Mount, ...], device: str) -> None:
    """Raise InputError for a mount that hides software of the image."""
    # NVIDIA's runtime mounts the driver's libraries and programs, and lists of libraries.
    hidden = ("/opt/samebits", "/usr/local", "/etc/ld.so.preload") if device == "gpu" else _SOFTWARE_FOLDERS
    for mount in mounts:
        if _is_below(mount.target, hidden):
            raise InputError(
                f"{mount.target} is mounted over software of the image, which is then not what the recipe names;"
                " remove that mount"
            )


def check_image_files(epoch: float) -> None:
    """Raise InputError for a file of ours in the image that was changed since the image was built.

    A build sets the time of every file. A layer that was added later does not, and neither does a container.
    """
    changed = sorted(path for path, time in _file_times(str(CONTEXT.parent)) if time != epoch)
    if changed:
        raise InputError(
            f"files changed after the image was built: {shorten(changed, 3)}; use an image of `samebits build`"
        )


def _file_times(folder: str) -> Iterator[tuple[str, float]]:
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as listing:
            for entry in listing:
                yield entry.path, entry.stat(follow_symlinks=False).st_mtime
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def check_libraries(table: str | None = None) -> None:
    """Raise InputError where a library from outside of the image is loaded; `table` is a `maps` of /proc."""
    text = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace") if table is None else table
    paths = {line.split(None, 5)[5] for line in text.splitlines() if len(line.split(None, 5)) == 6}
    foreign = sorted(path for path in paths if ".so" in path and not _is_below(path, _SOFTWARE_FOLDERS))
    if foreign:
        raise InputError(
            f"libraries are loaded that the recipe does not name: {shorten(foreign, 3)}; do not preload any"
        )
