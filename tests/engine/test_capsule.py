"""A capsule on another machine, played by an engine of its own: nothing in its store, no network, an empty cache."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from samebits.core.run_dir import RunDir
from support.command import COMMAND, ROOT, Project, call

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.slow]

_THERE = """
set -eu
ip link set lo up
"$ENGINE" up "$STATE" >&2
trap '"$ENGINE" down "$STATE" >&2' EXIT
eval "$("$ENGINE" env "$STATE")"
test -z "$(docker images --quiet)"
"""


@pytest.fixture
def elsewhere(engine: str) -> Iterator[Path]:
    """The folder of a second engine, with the programs of the first one."""
    root = Path(engine.removeprefix("unix://")).parent / "root"
    if os.getuid() != 0 or not (root / "usr").is_dir():
        pytest.skip("needs root, and an engine of tools/engine.sh")
    # A socket's path is short.
    with tempfile.TemporaryDirectory(prefix="sb-", dir="/tmp") as name:
        (Path(name) / "root").symlink_to(root)
        yield Path(name)


def there(state: Path, folder: Path, script: str) -> str:
    """What a shell prints on that machine."""
    variables = {
        "ENGINE": str(ROOT / "tools" / "engine.sh"),
        "STATE": str(state),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "SAMEBITS": COMMAND[0],
    }
    done = subprocess.run(
        ["unshare", "--net", "bash", "-c", _THERE + script],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_on_another_machine(in_docker: Project, elsewhere: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It verifies, and its README leads to the same result with Docker alone."""
    folder = tmp_path_factory.mktemp("received")
    done = in_docker.train()
    assert done.status == 0, done.err
    result = RunDir(in_docker.folder / done.run).read().result_digest
    words = ("pack", "last", "-o", str(folder / "a.tar"), "--without", "base,wheels")
    assert call(*words, folder=in_docker.folder).status == 0
    shutil.rmtree(in_docker.folder / "data")
    commands = readme(folder)
    assert "docker load" in commands
    # The second half comes first: after `verify`, the image would be there.
    printed = there(elsewhere, folder, f'({commands}) | tail -n 1\n"$SAMEBITS" verify a.tar | tail -n 1\n')
    assert printed.splitlines() == [f"result {result}", "identical: 1 model, 1 file"]


def readme(folder: Path) -> str:
    """The commands of a capsule's README."""
    text = subprocess.run(
        ["tar", "-xOf", "a.tar", "README.txt"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout
    lines = text.partition("Verify it with Docker alone")[2].partition("The last line must be")[0].splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines if line.startswith("    ")).replace("CAPSULE", "a.tar")
