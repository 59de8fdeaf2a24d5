"""The layers of a project's packages: large wheels, which rarely change, below small ones.

Adding a small package then builds and stores one small layer. Which wheel is large follows from the lock alone.
"""

from collections.abc import Iterable
from pathlib import Path

from packaging.utils import canonicalize_name

from samebits.host.image.lockfile import Pin, read_lock, text_of
from samebits.host.image.wheelhouse import link_or_copy

_LARGE = 4 << 20  # bytes
LAYERS = ("packages-large", "packages-small")
"""The names of the two contexts in the Dockerfile."""


def layer_wheels(lock: Path, wheels: Path, target: Path) -> dict[str, Path]:
    """A folder for each layer, with its wheels and its part of the lock; `wheels` has one wheel for each pin."""
    pins = {pin.name: pin for pin in read_lock(lock)}
    files = sorted(wheels.iterdir())
    large = [file for file in files if file.stat().st_size >= _LARGE]
    parts = (large, [file for file in files if file not in large])
    return {name: _fill(target / name, part, pins) for name, part in zip(LAYERS, parts, strict=True)}


def _fill(folder: Path, files: Iterable[Path], pins: dict[str, Pin]) -> Path:
    folder.mkdir()
    chosen = []
    for file in files:
        link_or_copy(file, folder / file.name)
        chosen.append(pins[canonicalize_name(file.name.partition("-")[0])])
    (folder / "requirements.txt").write_text(text_of(chosen, markers=False))
    return folder
