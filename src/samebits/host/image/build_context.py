"""The build context: one folder with every file that an image or a virtual environment is made from.

    Dockerfile
    lock/requirements.lock     every package
    cuda/requirements.lock     in an image for GPUs: NVIDIA's packages, which have their own layer
    source/samebits/…          `core` and `runner`
    image.json                 every argument of the build

The image holds a copy at /opt/samebits/recipe, a run's folder holds one in image/. The context alone is enough to
rebuild the image.
"""

import compileall
import os
import py_compile
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import samebits
from samebits.core.digest import Digest
from samebits.core.errors import ImageError, SamebitsError
from samebits.core.file_tree import hash_tree
from samebits.core.jsonio import readable_json, write_atomically
from samebits.core.recipe import ImageIdentity
from samebits.core.source_digest import context_source_digest, digest_of_files
from samebits.host.cache_dir import cache_folder, exclusive
from samebits.host.console import log

_PACKAGE = Path(samebits.__file__).parent


def context_file(name: str) -> Path:
    """A Dockerfile or a lock; an installed wheel has it beside this module, a checkout at its top."""
    # pyproject.toml puts the copies into the wheel.
    packed = Path(__file__).parent / "context" / name
    return packed if packed.exists() else _PACKAGE.parents[1] / name


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageKind:
    """An image for one device, `cpu` or `gpu`, and the files it is built from."""

    device: str
    dockerfile: str
    lock: str

    @property
    def tag(self) -> str:
        """The image's default name."""
        return f"samebits:{self.device}"

    @property
    def lock_digest(self) -> Digest:
        """The digest of the lock, which decides the packages that the user's script can import."""
        return Digest.of_file(context_file(self.lock))


CPU = ImageKind(device="cpu", dockerfile="Dockerfile", lock="requirements.lock")
GPU = ImageKind(device="gpu", dockerfile="Dockerfile.gpu", lock="requirements-gpu.lock")


def source_files(kind: ImageKind) -> dict[str, Path]:
    """The files of an image besides wheels, by their paths in the build context."""
    paths = [path for path in _PACKAGE.glob("*.py") if path.name != "__main__.py"]
    # With sub-packages: a module that is left out here is missing in every image and virtual environment.
    halves = (path for half in ("core", "runner") for path in (_PACKAGE / half).rglob("*"))
    paths += [path for path in halves if path.suffix in {".py", ".json"}]
    files = {f"source/samebits/{path.relative_to(_PACKAGE)}": path for path in paths}
    return files | {"Dockerfile": context_file(kind.dockerfile)}


def source_digest(kind: ImageKind) -> Digest:
    """The digest of the entrypoint's source and the Dockerfile."""
    return digest_of_files(source_files(kind))


def check_kept(context: Path, recorded: ImageIdentity) -> None:
    """Raise ImageError unless lock and source in a run's build context have the recorded digests."""
    lock = context / "lock" / "requirements.lock"
    try:
        lock_digest, source = Digest.of_file(lock), context_source_digest(context)
    except OSError as error:
        raise ImageError(f"the build context in {context} is incomplete: {error}; restore the run's folder") from error
    check_recorded("lock", lock, lock_digest, recorded.lock)
    check_recorded("source or Dockerfile", context, source, recorded.source)


def check_recorded(what: str, path: Path, found: Digest, wanted: Digest | None) -> None:
    """Raise ImageError if a part of a build context does not have the recorded digest."""
    if found != wanted:
        raise ImageError(f"the {what} in {path} is not the recorded one: found {found}, recorded {wanted}")


def write_context(kind: ImageKind, target: Path, manifest: bytes) -> None:
    """Fill an empty folder with the build context; file modes depend neither on the umask nor on the checkout."""
    for name, path in (source_files(kind) | {"lock/requirements.lock": context_file(kind.lock)}).items():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    # A layer of its own for gigabytes that rarely change: a new TensorFlow does not move them.
    if kind is GPU:
        (target / "cuda").mkdir()
        write_atomically(target / "cuda" / "requirements.lock", cuda_lock(context_file(kind.lock).read_text()).encode())
    write_atomically(target / "image.json", manifest)
    fix_modes(target)


def cuda_lock(lock: str) -> str:
    """The part of a lock that holds NVIDIA's libraries, which have their own layer."""
    # A block is a pin with its hashes and comments; only its first line is not indented.
    blocks = re.split(r"^(?=\S)", lock, flags=re.MULTILINE)
    return "".join(block for block in blocks if re.match(r"nvidia-\S+-cu\d+==", block))


def fix_modes(target: Path) -> None:
    """Make every file 0644 and every folder 0755."""
    target.chmod(0o755)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def staged_context() -> Path:
    """A cached build context; its source/ is the only part of samebits that the virtual environment can import."""
    folder = cache_folder("source")
    lock, source = CPU.lock_digest, source_digest(CPU)
    # Named by digests, so an upgrade of samebits never changes a context that a training uses.
    target = folder / Digest.of_json([str(lock), str(source)]).hex[:16]
    with exclusive(folder, "stage"):
        if target.exists() and not _is_as_staged(target):
            log(f"{target} was changed; making it anew")
            shutil.rmtree(target)
        if not target.exists():
            # Renamed when complete: an interrupted copy is never used.
            draft = Path(tempfile.mkdtemp(dir=folder, prefix=".draft-"))
            write_context(CPU, draft, readable_json({"lock": str(lock), "source": str(source)}))
            # Compiled in advance, and never checked against the sources, so that a run writes nothing here.
            compileall.compile_dir(
                draft / "source", quiet=1, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
            )
            write_atomically(_digest_path(target), str(hash_tree(draft, "source").digest).encode())
            os.rename(draft, target)
    return target


def _is_as_staged(target: Path) -> bool:
    """Whether all files have the digest they were staged with. Python runs compiled files whatever the sources say."""
    try:
        return hash_tree(target, "source").digest == Digest.parse(_digest_path(target).read_text(encoding="utf-8"))
    except (OSError, ValueError, SamebitsError):
        return False


def _digest_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.sha256")
