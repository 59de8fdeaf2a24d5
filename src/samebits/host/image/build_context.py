"""The build context: one folder with every file that an image or a virtual environment is made from.

    Dockerfile
    lock/requirements.lock     TensorFlow and what it needs
    packages/requirements.lock in an image for a project: its own packages, which have their own layer
    packages/wheels/           the wheels of those that were built from source
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
from samebits.core.errors import ImageError, RecordError, SamebitsError
from samebits.core.file_tree import hash_tree
from samebits.core.jsonio import Fields, parse_digits, read_json, readable_json, write_atomically
from samebits.core.recipe import ImageIdentity
from samebits.core.run_files import MAX_CODE_BYTES, plain_sha256
from samebits.core.source_digest import LOCK_PATH, PACKAGES_PATH, context_source_digest, digest_of_files
from samebits.host.cache_dir import cache_folder, exclusive
from samebits.host.console import log

_PACKAGE = Path(samebits.__file__).parent
CUDA_PATH = "cuda/requirements.lock"
WHEELS_PATH = "packages/wheels"

IMAGE_PYTHON = (3, 13)
"""The Python of the usual base image, for which the wheels are chosen."""


def context_file(name: str) -> Path:
    """A Dockerfile or a lock; an installed wheel has it beside this module, a checkout at its top."""
    # pyproject.toml puts the copies into the wheel.
    packed = Path(__file__).parent / "context" / name
    return packed if packed.exists() else _PACKAGE.parents[1] / name


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectLocks:
    """The locks of a project: `base` in place of samebits's own, if it is another, and `packages` above it.

    `wheels` are those of the packages that were built from source, which no index has.
    """

    base: str | None = None
    packages: str | None = None
    wheels: tuple[Path, ...] = ()


NO_PROJECT = ProjectLocks()


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageKind:
    """An image for one device, `cpu` or `gpu`, and the files it is built from; `project` is the locks of a project."""

    device: str
    dockerfile: str
    lock: str
    project: ProjectLocks = NO_PROJECT
    python: tuple[int, int] = IMAGE_PYTHON

    @property
    def tag(self) -> str:
        """The image's default name; that of a project is named by its locks."""
        name = f"samebits:{self.device}"
        if self.python != IMAGE_PYTHON:
            name += f"-py{self.python[0]}{self.python[1]}"
        return name if self.project == NO_PROJECT else f"{name}-{Digest.of_json(self.digests).hex[:12]}"

    @property
    def python_text(self) -> str:
        """The Python of its base, such as `3.13`."""
        return f"{self.python[0]}.{self.python[1]}"

    @property
    def lock_text(self) -> bytes:
        """The lock of TensorFlow and what it needs."""
        base = self.project.base
        return context_file(self.lock).read_bytes() if base is None else base.encode()

    @property
    def lock_digest(self) -> Digest:
        """The digest of the lock of TensorFlow and what it needs."""
        return Digest.of_bytes(self.lock_text)

    @property
    def packages_digest(self) -> Digest | None:
        """The digest of the lock of the project's own packages."""
        packages = self.project.packages
        return None if packages is None else Digest.of_bytes(packages.encode())

    @property
    def digests(self) -> dict[str, str]:
        """The digests of the locks, which decide the packages that the user's script can import."""
        packages = self.packages_digest
        return {"lock": str(self.lock_digest)} | ({} if packages is None else {"packages": str(packages)})


def parse_python(text: str | None) -> tuple[int, int]:
    """Major and minor of a text such as `3.12`; None means the usual one."""
    if text is None:
        return IMAGE_PYTHON
    major, _, minor = text.partition(".")
    numbers = parse_digits(major), parse_digits(minor)
    if numbers[0] is None or numbers[1] is None:
        raise RecordError(f"{text[:40]!r} is no version of Python such as 3.12")
    return numbers[0], numbers[1]


def context_python(context: Path) -> tuple[int, int]:
    """The Python that a build context's image is made for; raises RecordError."""
    return parse_python(Fields(read_json(context / "image.json", context)).optional("python", str))


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
    """Raise ImageError unless locks and source in a run's build context have the recorded digests."""
    lock, packages = context / LOCK_PATH, context / PACKAGES_PATH
    try:
        lock_digest = Digest(plain_sha256(lock, context, MAX_CODE_BYTES))
        source = context_source_digest(context)
        # A lock that the recipe does not name must not be there either.
        there = os.path.lexists(packages)
        packages_digest = Digest(plain_sha256(packages, context, MAX_CODE_BYTES)) if there else None
    except OSError as error:
        raise ImageError(f"the build context in {context} is incomplete: {error}; restore the run's folder") from error
    check_recorded("lock", lock, lock_digest, recorded.lock)
    check_recorded("lock of packages", packages, packages_digest, recorded.packages)
    check_recorded("source or Dockerfile", context, source, recorded.source)


def check_recorded(what: str, path: Path, found: Digest | None, wanted: Digest | None) -> None:
    """Raise ImageError if a part of a build context does not have the recorded digest."""
    if found != wanted:
        raise ImageError(f"the {what} in {path} is not the recorded one: found {found}, recorded {wanted}")


def write_context(kind: ImageKind, target: Path, manifest: bytes) -> None:
    """Fill an empty folder with the build context; file modes depend neither on the umask nor on the checkout."""
    for name, path in source_files(kind).items():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    for name, text in _locks(kind).items():
        (target / name).parent.mkdir()
        write_atomically(target / name, text)
    for wheel in kind.project.wheels:
        (target / WHEELS_PATH).mkdir(exist_ok=True)
        shutil.copyfile(wheel, target / WHEELS_PATH / wheel.name)
    write_atomically(target / "image.json", manifest)
    fix_modes(target)


def _locks(kind: ImageKind) -> dict[str, bytes]:
    """The locks of a build context by their paths; each has a layer of its own."""
    lock = kind.lock_text
    # Gigabytes that rarely change: a new TensorFlow does not move them.
    cuda = {CUDA_PATH: cuda_lock(lock.decode()).encode()} if kind.device == GPU.device else {}
    packages = kind.project.packages
    return {LOCK_PATH: lock} | cuda | ({} if packages is None else {PACKAGES_PATH: packages.encode()})


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


def staged_context(kind: ImageKind = CPU) -> Path:
    """A cached build context; its source/ is the only part of samebits that the virtual environment can import."""
    folder = cache_folder("source")
    digests = kind.digests | {"source": str(source_digest(kind))}
    # Named by digests, so an upgrade of samebits never changes a context that a training uses.
    target = folder / Digest.of_json(digests).hex[:16]
    with exclusive(folder, "stage"):
        if target.exists() and not _is_as_staged(target):
            log(f"{target} was changed; making it again")
            shutil.rmtree(target)
        if not target.exists():
            # Renamed when complete: an interrupted copy is never used.
            draft = Path(tempfile.mkdtemp(dir=folder, prefix=".draft-"))
            write_context(kind, draft, readable_json(digests))
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
