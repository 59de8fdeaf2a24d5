"""The files that images and environments are made of: the lock, the Dockerfile, and the entrypoint's own source."""

import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

import samebits
from samebits.codec import write_atomically
from samebits.digest import Digest
from samebits.host.cache import cache_folder, exclusive
from samebits.tree import Tree, TreeEntry

_PACKAGE = Path(samebits.__file__).parent


def context_file(name: str) -> Path:
    """`Dockerfile` or `requirements.lock`: in a wheel beside this module, in a checkout at its top."""
    packed = Path(__file__).parent / "context" / name
    return packed if packed.exists() else _PACKAGE.parents[1] / name


def lock_digest() -> Digest:
    """Names the packages that the user's script sees."""
    return Digest.of_file(context_file("requirements.lock"))


def source_files() -> list[Path]:
    """What runs beside the script: the shared modules and the container's half."""
    shared = (path for path in _PACKAGE.glob("*.py") if path.name != "__main__.py")
    return sorted([*shared, *(_PACKAGE / "container").glob("*.py")])


@cache
def source_digest() -> Digest:
    """Names the entrypoint's source together with the Dockerfile that puts it in place."""
    files = {f"samebits/{path.relative_to(_PACKAGE)}": path for path in source_files()}
    files["Dockerfile"] = context_file("Dockerfile")
    entries = (
        TreeEntry(path=name, size=path.stat().st_size, digest=Digest.of_file(path))
        for name, path in sorted(files.items())
    )
    return Tree(entries=tuple(entries)).digest


def stage_source(target: Path) -> None:
    """Copy the source to `target`/samebits with fixed modes, whatever the umask or a checkout made them."""
    for path in source_files():
        copy = target / "samebits" / path.relative_to(_PACKAGE)
        for folder in (copy.parent.parent, copy.parent):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        shutil.copyfile(path, copy)
        copy.chmod(0o644)


def staged_source() -> Path:
    """A cached folder that holds the source alone, for PYTHONPATH: the host's own packages stay out of sight."""
    folder = cache_folder("source")
    target = folder / source_digest().hex[:16]
    with exclusive(folder, "stage"):
        if not target.exists():
            draft = Path(tempfile.mkdtemp(dir=folder, prefix=".draft-"))
            stage_source(draft)
            os.rename(draft, target)
    return target


def stage_context(target: Path, manifest: bytes) -> None:
    """Fill the build's `source` context: the source, and what the image will know of itself."""
    inner = target / "source"
    inner.mkdir()
    inner.chmod(0o755)
    stage_source(inner)
    write_atomically(target / "image.json", manifest)


def python_tag() -> str:
    """`cp311` for the Python that runs this."""
    return f"cp{sys.version_info[0]}{sys.version_info[1]}"
