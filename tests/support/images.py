"""Images that tests build, and containers without a launcher."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from samebits.host.image.build_context import CPU, ImageKind, context_file
from support.command import Done, Project

_SMALL = ("packaging", "pygments", "rich")  # of the lock's wheels: a build of a few seconds
COMPILING = "--invalidation-mode unchecked-hash /opt/samebits/venv/lib"  # the step that keeps times out of each .pyc


def small_kind(folder: Path, compiling: str = COMPILING) -> ImageKind:
    """The CPU image with a few wheels only, built in seconds; its step of compiling can be replaced."""
    dockerfile = context_file(CPU.dockerfile).read_text()
    assert dockerfile.count(COMPILING) == 1
    blocks = re.split(r"^(?=\S)", context_file(CPU.lock).read_text(), flags=re.MULTILINE)
    (folder / "Dockerfile").write_text(dockerfile.replace(COMPILING, compiling))
    (folder / "some.lock").write_text("".join(block for block in blocks if block.startswith(_SMALL)))
    return ImageKind(device=CPU.device, dockerfile=str(folder / "Dockerfile"), lock=str(folder / "some.lock"))


@dataclass(frozen=True, kw_only=True)
class OtherPin:
    """An image that differs from samebits:cpu in one pin of its lock."""

    tag: str
    name: str
    old: str
    new: str


def plain_run(
    project: Project, *words: str, options: tuple[str, ...] = (), user: str | None = None, image: str = "samebits:cpu"
) -> Done:
    """`docker run` as the README shows it."""
    who = user if user is not None else f"{os.getuid()}:{os.getgid()}"
    mounts = [f"{project.folder}:/work:ro", f"{project.data}:/data:ro", f"{project.runs}:/runs"]
    command = ["docker", "run", "--rm", *(["--user", who] if who else [])]
    command += [word for mount in mounts for word in ("-v", mount)]
    done = subprocess.run([*command, *options, image, *words], capture_output=True, text=True, timeout=600, check=False)
    return Done(status=done.returncode, out=done.stdout, err=done.stderr)
