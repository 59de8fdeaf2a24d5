"""The lock of a project: find it beside the script, check it, and divide it into what images are made of.

A project's lock is whole: it pins TensorFlow and all that it needs, too. What agrees with samebits's own lock is taken
from that, so that projects share a layer. Other pins of TensorFlow's packages win over samebits's.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from packaging.pylock import Package, Pylock, PylockSelectError, PylockValidationError

from samebits.core.determinism_profile import PORTABLE_PACKAGES
from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError, shorten
from samebits.core.run_config import RunConfig
from samebits.core.toml_file import parse_toml
from samebits.host.image.build_context import CPU, GPU, ImageKind, ProjectLocks, context_file, parse_python
from samebits.host.image.built_wheels import wheels_of
from samebits.host.image.lockfile import Pin, has_hashes, read_lock, read_text, text_of
from samebits.host.image.requirements import SOURCES, Requirements, read_requirements
from samebits.host.image.wheelhouse import Target

LOCK_NAME = "requirements.lock"
_LOCKS = (LOCK_NAME, "pylock.toml", "requirements.txt")
# The packages that TensorFlow of other versions or devices is made of, beside those in samebits's own locks.
_FOUNDATION = {"tensorflow", "tensorflow-intel", "tensorflow-io-gcs-filesystem"}
_TENSORFLOW = ("tensorflow", "tensorflow-cpu")
_MARK = re.compile(r"^# samebits: (\S+) is (sha256:[0-9a-f]{64}); Python (\d+)\.(\d+)$", re.MULTILINE)


def project_kind(spec: RunConfig, target: Target | None = None) -> ImageKind:
    """The image that a script trains in, by its device and the lock beside it; the virtual environment has its locks.

    `target` is the Python of the virtual environment; None stands for the image's.

    Raises InputError for a lock that is out of date, damaged, or does not go with samebits's own.
    """
    target = target or Target(python=parse_python(spec.python))
    kind = replace(CPU if spec.gpus is None else GPU, python=target.python)
    lock = find_lock(spec)
    if lock is None:
        return kind
    pins = _checked_pins(spec, lock, target)
    project = divide(pins, kind, lock)
    if spec.determinism.portable:
        _check_proven(pins, lock)
    return replace(kind, project=project)


def find_lock(spec: RunConfig) -> Path | None:
    """The lock of a script's project; raises InputError if `samebits.toml` names one that is missing."""
    if spec.lock is not None:
        if not spec.lock.exists():
            raise InputError(f"the lock {spec.lock} does not exist; make it with `samebits lock`")
        return spec.lock
    found = (folder / name for folder in _folders(spec) for name in _LOCKS)
    # The usual requirements.txt is no lock: it counts only if it has hashes.
    return next((path for path in found if path.exists() and (path.suffix != ".txt" or has_hashes(path))), None)


def find_requirements(spec: RunConfig) -> Path | None:
    """The file with the requirements of a script's project."""
    if spec.requirements is not None:
        return spec.requirements
    found = (folder / name for folder in _folders(spec) for name in SOURCES)
    return next((path for path in found if path.exists() and _lists_any(path)), None)


def _folders(spec: RunConfig) -> Iterator[Path]:
    """The script's folder, and those above it up to the project's."""
    folder, root = (Path(os.path.abspath(path)) for path in (spec.script.parent, spec.code_folder))
    yield folder
    yield from (path for path in folder.parents if path.is_relative_to(root))


def _lists_any(path: Path) -> bool:
    """Whether it is a file of requirements; a `pyproject.toml` without dependencies holds other settings only."""
    return path.suffix != ".toml" or bool(read_requirements(path).listed)


def mark(requirements: Requirements, python: tuple[int, int]) -> str:
    """The line of a lock that says what it was made from, and by which Python."""
    return f"# samebits: {requirements.source.name} is {requirements.digest}; Python {python[0]}.{python[1]}\n"


def _checked_pins(spec: RunConfig, lock: Path, target: Target) -> tuple[Pin, ...]:
    """The pins of a lock for a Python; raises InputError where the requirements changed since it was made."""
    if lock.suffix == ".toml":
        return read_pylock(lock, target)
    pins = read_lock(lock)
    made_from = _MARK.search(read_text(lock))
    source = find_requirements(spec)
    if made_from and source and Digest.parse(made_from[2]) != read_requirements(source).digest:
        raise InputError(f"{source} changed after {lock.name} was made; run `samebits lock`")
    # Without a choice, what the lock lacks for this Python is found in the wheels.
    if made_from and spec.python and parse_python(f"{made_from[3]}.{made_from[4]}") != target.python:
        made_with = f"{made_from[3]}.{made_from[4]}"
        raise InputError(
            f"{lock} was made with Python {made_with}, and the project asks for {spec.python}; run `samebits lock`"
        )
    return pins


def read_pylock(path: Path, target: Target) -> tuple[Pin, ...]:
    """The pins of a `pylock.toml` (PEP 751) for a Python; raises InputError for one that holds more than wheels."""
    try:
        lock = Pylock.from_dict(parse_toml(read_text(path)))
        chosen = [package for package, _ in lock.select(environment=target.environment, tags=list(target.ranks))]
    except (ValueError, PylockValidationError, PylockSelectError) as error:
        raise InputError(f"{path} cannot be used for Python {target.python[0]}.{target.python[1]}: {error}") from error
    return tuple(_pin(path, package) for package in chosen)


def _pin(path: Path, package: Package) -> Pin:
    files = [*(package.wheels or ()), *([package.sdist] if package.sdist else ())]
    if package.version is None or not files:
        raise InputError(f"{path}: {package.name} is no published version; a lock holds nothing else")
    try:
        hashes = frozenset(Digest.parse(f"sha256:{file.hashes['sha256']}") for file in files)
    except (KeyError, RecordError) as error:
        raise InputError(f"{path}: a file of {package.name} has no sha256; make the lock with one") from error
    return Pin(name=package.name, version=str(package.version), hashes=hashes, marker=None, line=0)


def divide(pins: Sequence[Pin], kind: ImageKind, lock: Path) -> ProjectLocks:
    """The locks of a project: `base` is None where its pins of TensorFlow's packages are samebits's own.

    Raises InputError for pins that contradict samebits's without bringing a TensorFlow of their own.
    """
    own = {pin.name: pin for pin in read_lock(context_file(kind.lock))}
    foundation = foundation_names()
    base = {pin.name: pin for pin in pins if pin.name in foundation}
    above = text_of(pin for pin in pins if pin.name not in foundation) or None
    wheels = wheels_of(lock, (pin for pin in pins if pin.name not in foundation))
    if _within(base, own) or _within(base, _own_cpu()):
        return ProjectLocks(packages=above, wheels=wheels)
    if not any(name in base for name in _TENSORFLOW):
        _check_agree(base.values(), own, lock)
        return ProjectLocks(packages=above, wheels=wheels)
    if all(name in base for name in _TENSORFLOW):
        raise InputError(f"{lock} pins both tensorflow and tensorflow-cpu, which have the same files; keep one")
    if kind.device == GPU.device:
        raise InputError(
            f"{lock} pins a TensorFlow of its own, and images for GPUs hold samebits's; drop --gpus, or tensorflow"
        )
    return ProjectLocks(base=text_of(base.values()), packages=above, wheels=wheels)


def foundation_names() -> set[str]:
    """The packages of TensorFlow's layer."""
    return _FOUNDATION.union(*({pin.name for pin in read_lock(context_file(kind.lock))} for kind in (CPU, GPU)))


def _own_cpu() -> dict[str, Pin]:
    """The pins that projects are locked with; an image for GPUs has its own lock, at the same versions."""
    return {pin.name: pin for pin in read_lock(context_file(CPU.lock))}


def _within(pins: Mapping[str, Pin], own: Mapping[str, Pin]) -> bool:
    """Whether samebits's lock has all of these, and TensorFlow by the same name.

    It may have more: the lock for GPUs adds CUDA, and a lock of an older samebits lacks what was added since.
    """
    return any(name in pins and name in own for name in _TENSORFLOW) and all(
        name in own and _agrees(pin, own) for name, pin in pins.items()
    )


def _check_agree(pins: Iterable[Pin], own: Mapping[str, Pin], lock: Path) -> None:
    other = [f"{pin} (samebits: {own[pin.name]})" for pin in pins if pin.name in own and not _agrees(pin, own)]
    if other:
        raise InputError(
            f"{lock} pins other versions than samebits does, and no tensorflow: {shorten(other, 3)}; pin these, or a"
            " tensorflow that goes with yours"
        )


def _check_proven(pins: Iterable[Pin], lock: Path) -> None:
    """Refuse other versions of what computes than those that the portable profile is proven for."""
    own = {name.removesuffix("-cpu"): pin.version for name, pin in _own_cpu().items()}
    named = ((pin, pin.name.removesuffix("-cpu")) for pin in pins)
    other = [
        f"{pin} (samebits: {own[name]})"
        for pin, name in named
        if name in PORTABLE_PACKAGES and pin.version != own[name]
    ]
    if other:
        raise InputError(
            f"{lock} pins {shorten(other, 3)}, and the portable profile is proven for samebits's versions only; drop"
            " these, or --profile portable"
        )


def _agrees(pin: Pin, own: Mapping[str, Pin]) -> bool:
    return own[pin.name].version == pin.version and bool(own[pin.name].hashes & pin.hashes)
