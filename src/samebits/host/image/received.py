"""The build context in a run's folder, which someone else may have made: what of it is taken, and what it may do.

Only the files that samebits itself puts there are copied, as regular files, and held against the digests of the recipe.
An image is built by a Dockerfile that this project has written, or that the user has read and trusts.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import ImageError, UntrustedError, pluralize
from samebits.core.recipe import ImageIdentity
from samebits.core.run_files import plain_files, read_plain
from samebits.core.source_digest import LOCK_PATH, PACKAGES_PATH
from samebits.host.cache_dir import cache_folder, exclusive
from samebits.host.image.build_context import (
    CPU,
    CUDA_PATH,
    GPU,
    WHEELS_PATH,
    check_kept,
    context_file,
    cuda_lock,
    fix_modes,
    source_digest,
)

_FILES = ("Dockerfile", "image.json", LOCK_PATH)
_OPTIONAL = (CUDA_PATH, PACKAGES_PATH)
_MAX_FILES = 1_000  # samebits has about 120
_MAX_BYTES = 16 << 20  # of one of them
# A RUN is built without network unless it asks for it.
_NETWORK = re.compile(r"--network[=\s]+(?!none\b)|--security\b|^\s*#\s*syntax\s*=", re.MULTILINE | re.IGNORECASE)

KNOWN_DOCKERFILES = {
    # By their sha256, as this project has had them: of CPU and GPU, oldest first.
    "5f28e4cead276f825b3826079d450ccc288c20f24a8d064d504844d28264f081": "0.1.0",
    "69202286c85ed0b24b6b8041bb4c11658597c33402adabff15c439bb80827807": "0.1.0",
    "472c12175af2f2c4701c58ee43d55afb31908699846a6376bd428d1e65740bd1": "0.1.0",
    "ac3c089a016ecfe17c3cd6c87cc6cf2fe56f7f595d4020e7ab5c040f4b4155b9": "0.1.0",
    "1a9229511cdafa05be55496b8bbf97cfc77cd3b748d9033d02fd56cb79953ccf": "0.1.0",
    "448aaf88beebe002bab2c64811e10c675aade465aaefe04ae3748fbe5ea1af19": "0.1.0",
    "9dc873ba05a538cc809a9a9882a6ae485cc653cf96e3194ac62c6d0180f1d07f": "0.1.0",
    "9e285c2e8d57c2d3bc8911ed3fc9a9ec2b68a563e2a2fa687dd7864b3afc9c16": "0.1.0",
}
"""The Dockerfiles of releases. They run what the locks and the source name in builds without network, and no more."""


def is_installed(recorded: ImageIdentity) -> bool:
    """Whether a virtual environment of a recipe is that of this installation."""
    own = CPU.lock_digest, None, source_digest(CPU)
    return (recorded.lock, recorded.packages, recorded.source) == own


def packed_beside(run: Path, part: str) -> Path | None:
    """The folder of a capsule's part, such as `wheels`, beside a run that was unpacked; its content proves nothing."""
    folder = run.absolute().parent
    found = (folder / "capsule.json").is_file() and (folder / part).is_dir() and not (folder / part).is_symlink()
    return folder / part if found else None


def copy_context(folder: Path, target: Path, recorded: ImageIdentity) -> None:
    """Copy what belongs to a build context into an empty folder; raises ImageError unless it is the recorded one."""
    try:
        for name in _allowed(folder):
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(read_plain(folder / name, _MAX_BYTES, folder))
    except OSError as error:
        reason = f"{error.filename or folder}: {error.strerror}"
        raise ImageError(f"the build context in {folder} is incomplete: {reason}; restore the run's folder") from error
    check_kept(target, recorded)
    _check_cuda(target)
    fix_modes(target)


def _allowed(folder: Path) -> Iterator[str]:
    """The files of a build context that samebits writes; whatever else lies there is not used."""
    names = [*_FILES, *(name for name in _OPTIONAL if os.path.lexists(folder / name))]
    names += plain_files(folder, "source")
    if os.path.lexists(folder / WHEELS_PATH):
        names += (name for name in plain_files(folder, WHEELS_PATH) if name.endswith(".whl"))
    if len(names) > _MAX_FILES:
        raise ImageError(
            f"the build context in {folder} holds {pluralize(len(names), 'file')}: samebits does not write that many"
        )
    yield from names


def _check_cuda(context: Path) -> None:
    """Raise ImageError unless the lock of NVIDIA's packages, which no digest covers, is a part of the recorded lock."""
    if not (context / CUDA_PATH).exists():
        return
    found, lock = ((context / name).read_bytes() for name in (CUDA_PATH, LOCK_PATH))
    if found != cuda_lock(lock.decode("utf-8", "replace")).encode():
        raise ImageError(f"{CUDA_PATH} of the build context is no part of its lock; restore the run's folder")


def received_context(folder: Path, recorded: ImageIdentity) -> Path:
    """A copy of a run's build context in the cache, checked whenever it is used; nothing is executed in the run."""
    root = cache_folder("received")
    target = root / Digest.of_json([str(recorded.lock), str(recorded.packages), str(recorded.source)]).hex[:16]
    with exclusive(root, target.name):
        if not _is_intact(target, recorded):
            shutil.rmtree(target, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=".draft-") as name:
                draft = Path(name) / "context"
                draft.mkdir()
                copy_context(folder, draft, recorded)
                draft.rename(target)
    return target


def _is_intact(context: Path, recorded: ImageIdentity) -> bool:
    try:
        check_kept(context, recorded)
    except ImageError:
        return False
    return True


def check_dockerfile(context: Path, *, trusted: bool, advice: str) -> None:
    """Raise UntrustedError for a Dockerfile of unknown origin, or for one that asks for the network."""
    content = (context / "Dockerfile").read_bytes()
    if Digest.of_bytes(content).hex in _known():
        return
    if _NETWORK.search(content.decode("utf-8", "replace")):
        raise UntrustedError("the Dockerfile in the run's folder asks for network or rights; no option allows that")
    if not trusted:
        raise UntrustedError(
            f"no known version of samebits wrote the Dockerfile in the run's folder; read it, then add {advice}"
        )


def _known() -> set[str]:
    own = (Digest.of_file(context_file(kind.dockerfile)).hex for kind in (CPU, GPU))
    return {*KNOWN_DOCKERFILES, *own}
