"""What tests may use of the machine: nothing, but for those that ask for it by a fixture.

So a test that trains, or starts containers, without `locked` or `engine` fails instead of landing in a wrong lane.
"""

import os
from pathlib import Path

import pytest

_REAL = {name: os.environ.get(name) for name in ("SAMEBITS_CACHE", "DOCKER_HOST")}
"""Before any test."""


def close_cache(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """No virtual environment is there, and none can be made."""
    cache = folder / "closed-cache"
    cache.mkdir(exist_ok=True)
    (cache / "venvs").touch()  # no folder, and so none can be made in it
    patch.setenv("SAMEBITS_CACHE", str(cache))


def close_engine(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """None answers, and the user has chosen to train without."""
    patch.setenv("DOCKER_HOST", f"unix://{folder}/no-engine.sock")
    own = folder / "config-without-engine" / "samebits" / "config.toml"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text('runtime = "venv"\n')
    patch.setenv("XDG_CONFIG_HOME", str(own.parents[1]))


def open_cache(patch: pytest.MonkeyPatch) -> None:
    """The machine's own."""
    _restore(patch, "SAMEBITS_CACHE")


def own_cache(folder: Path) -> Path:
    """A cache with nothing but the machine's own virtual environments, and what belongs to them."""
    real = Path(_REAL["SAMEBITS_CACHE"] or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "samebits"))
    folder.mkdir()
    for name in ("fingerprints", "source", "venvs"):
        (real / name).mkdir(exist_ok=True)
        (folder / name).symlink_to(real / name)
    return folder


def open_engine(patch: pytest.MonkeyPatch) -> None:
    """The one that answers; the user has chosen nothing."""
    _restore(patch, "DOCKER_HOST")
    patch.setenv("XDG_CONFIG_HOME", "/nonexistent")


def _restore(patch: pytest.MonkeyPatch, name: str) -> None:
    value = _REAL[name]
    if value is None:
        patch.delenv(name, raising=False)
    else:
        patch.setenv(name, value)
