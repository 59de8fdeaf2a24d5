"""The files that images and environments are made of, laid out as one folder: the image's recipe.

    Dockerfile
    lock/requirements.lock     every package
    cuda/requirements.lock     for a GPU: those of them that have a layer of their own
    source/samebits/…          the shared modules and the container's half
    image.json                 what the image will know of itself, and every argument of the build

It is the build's context, it lies in the image, a run's folder keeps a copy, and from that alone the image can be
rebuilt.
"""

import compileall
import os
import py_compile
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import samebits
from samebits.core.digest import Digest
from samebits.core.errors import ImageError
from samebits.core.file_tree import Tree, TreeEntry
from samebits.core.jsonio import readable_json, write_atomically
from samebits.core.recipe import ImageIdentity
from samebits.host.cache_dir import cache_folder, exclusive

_PACKAGE = Path(samebits.__file__).parent


def context_file(name: str) -> Path:
    """A Dockerfile or a lock: in a wheel beside this module, in a checkout at its top."""
    packed = Path(__file__).parent / "context" / name
    return packed if packed.exists() else _PACKAGE.parents[1] / name


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageKind:
    """A kind of image, by its files; `device` is `cpu` or `gpu`."""

    device: str
    dockerfile: str
    lock: str

    @property
    def tag(self) -> str:
        """The image's usual name."""
        return f"samebits:{self.device}"

    @property
    def lock_digest(self) -> Digest:
        """Names the packages that the user's script sees."""
        return Digest.of_file(context_file(self.lock))


CPU = ImageKind(device="cpu", dockerfile="Dockerfile", lock="requirements.lock")
GPU = ImageKind(device="gpu", dockerfile="Dockerfile.gpu", lock="requirements-gpu.lock")


def source_files(kind: ImageKind) -> dict[str, Path]:
    """What is put into an image besides wheels, by its path in the recipe."""
    paths = [path for path in _PACKAGE.glob("*.py") if path.name != "__main__.py"]
    # Sub-packages too: a module that is left out here is missing in every image and virtual environment.
    halves = (path for half in ("core", "runner") for path in (_PACKAGE / half).rglob("*"))
    paths += [path for path in halves if path.suffix in {".py", ".json"}]
    files = {f"source/samebits/{path.relative_to(_PACKAGE)}": path for path in paths}
    return files | {"Dockerfile": context_file(kind.dockerfile)}


def source_digest(kind: ImageKind) -> Digest:
    """Names the entrypoint's source together with the Dockerfile that puts it in place."""
    return _digest_of(source_files(kind))


def recipe_source_digest(recipe: Path) -> Digest:
    """The same of a recipe's folder, whoever laid it out."""
    files = {str(path.relative_to(recipe)): path for path in (recipe / "source").rglob("*") if path.is_file()}
    return _digest_of(files | {"Dockerfile": recipe / "Dockerfile"})


def check_kept(recipe: Path, recorded: ImageIdentity) -> None:
    """Raise ImageError unless lock and source in the recipe that a run keeps are those that its record names."""
    lock = recipe / "lock" / "requirements.lock"
    try:
        lock_digest, source = Digest.of_file(lock), recipe_source_digest(recipe)
    except OSError as error:
        raise ImageError(f"the image's recipe in {recipe} is not whole: {error}; restore the run's folder") from error
    check_recorded("lock", lock, lock_digest, recorded.lock)
    check_recorded("source or Dockerfile", recipe, source, recorded.source)


def check_recorded(what: str, path: Path, found: Digest, wanted: Digest | None) -> None:
    """Raise ImageError where a part of a recipe is not the recorded one."""
    if found != wanted:
        raise ImageError(f"the {what} in {path} is not the recorded one: {found}, and {wanted} is wanted")


def _digest_of(files: Mapping[str, Path]) -> Digest:
    entries = (
        TreeEntry(path=name, size=path.stat().st_size, digest=Digest.of_file(path))
        for name, path in sorted(files.items())
    )
    return Tree(entries=tuple(entries)).digest


def write_context(kind: ImageKind, target: Path, manifest: bytes) -> None:
    """Fill an empty folder with the recipe; modes are fixed, whatever the umask or a checkout made them."""
    for name, path in (source_files(kind) | {"lock/requirements.lock": context_file(kind.lock)}).items():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    if kind is GPU:
        (target / "cuda").mkdir()
        write_atomically(target / "cuda" / "requirements.lock", cuda_lock(context_file(kind.lock).read_text()).encode())
    write_atomically(target / "image.json", manifest)
    fix_modes(target)


def cuda_lock(lock: str) -> str:
    """The part of a lock that holds NVIDIA's libraries, which have a layer of their own."""
    blocks = re.split(r"^(?=\S)", lock, flags=re.MULTILINE)
    return "".join(block for block in blocks if re.match(r"nvidia-\S+-cu\d+==", block))


def fix_modes(target: Path) -> None:
    """Make every file 0644 and every folder 0755."""
    target.chmod(0o755)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def staged_recipe() -> Path:
    """A cached folder that holds the recipe, for the virtual environment: its source/ is all it sees of us."""
    folder = cache_folder("source")
    lock, source = CPU.lock_digest, source_digest(CPU)
    target = folder / Digest.of_json([str(lock), str(source)]).hex[:16]
    with exclusive(folder, "stage"):
        if not target.exists():
            draft = Path(tempfile.mkdtemp(dir=folder, prefix=".draft-"))
            write_context(CPU, draft, readable_json({"lock": str(lock), "source": str(source)}))
            compileall.compile_dir(
                draft / "source", quiet=1, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
            )
            os.rename(draft, target)
    return target
