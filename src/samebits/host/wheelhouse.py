"""The wheels that an image is made of, downloaded once by their locked hashes."""

import platform
import shutil
import sys
import tempfile
from pathlib import Path

from samebits.errors import ImageError
from samebits.host.cache import cache_folder, exclusive
from samebits.host.display import say
from samebits.host.process import run_tool
from samebits.host.source import context_file, lock_digest

IMAGE_PYTHON = (3, 13)
"""The Python of the base image; the wheels are chosen for it."""

_PLATFORMS = ("2_28", "2_27", "2_17", "2014", "2_12", "2010", "2_5", "1")


def filled_wheelhouse() -> Path:
    """A folder with every wheel of the lock, for the image's Python on x86-64 Linux; pip checks each hash.

    Raises ImageError on other machines, ToolError where a wheel cannot be had.
    """
    if platform.machine() != "x86_64":
        raise ImageError(
            f"images are built for x86-64 only, and this machine is {platform.machine()}; use another machine"
        )
    folder = cache_folder("wheelhouse")
    name = lock_digest().hex[:16]
    target = folder / name
    with exclusive(folder, name):
        if not target.exists():
            say("downloading the locked wheels (once for this lock; about 320 MB)")
            draft = Path(tempfile.mkdtemp(dir=folder, prefix=".draft-"))
            try:
                run_tool(_download(draft), what="downloading the locked wheels")
                draft.rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return target


def _download(target: Path) -> list[str]:
    version = f"{IMAGE_PYTHON[0]}{IMAGE_PYTHON[1]}"
    names = (f"manylinux{'_' if '_' in name else ''}{name}_x86_64" for name in _PLATFORMS)
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes"),
        *("--no-deps", "--only-binary", ":all:", "--implementation", "cp", "--python-version", version),
        *("--abi", f"cp{version}", "--abi", "abi3", "--abi", "none"),
        *(word for name in names for word in ("--platform", name)),
        *("--dest", str(target), "-r", str(context_file("requirements.lock"))),
    ]
