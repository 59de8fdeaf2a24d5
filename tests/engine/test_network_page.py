"""What docs/network-inputs.md does with Keras's example on reproducibility, in containers without network.

Keras checks the digest of MNIST, so only the real file will do. `SAMEBITS_KERAS_EXAMPLE` names a folder with
`reproducibility_recipes.py` and `mnist.npz`. Without it, a script like it trains on a small Fashion-MNIST, whose digest
Keras does not check. A server on the loopback interface answers for the real hosts either way.
"""

import gzip
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from samebits.core.inputs_lock import read_lock
from samebits.core.record import read_record
from support.command import COMMAND, ROOT, SCRIPTS
from support.hosts import Hosts, answering
from support.outside import own_cache

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.slow]

_PAGE = (ROOT / "docs" / "network-inputs.md").read_text()
_EXAMPLE, _PLAIN = (
    next(block for block in re.findall("```sh\n(.*?)```", _PAGE, re.DOTALL) if word in block).splitlines()
    for word in ("curl", "docker run")
)
_SCRIPT = "reproducibility_recipes.py"
_DATASETS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_HOSTS = ("storage.googleapis.com", "raw.githubusercontent.com")
_REAL = os.environ.get("SAMEBITS_KERAS_EXAMPLE")


def _served() -> dict[str, bytes]:
    """Contents by URL: the page's script, and the data set that it loads."""
    (url,) = re.findall(r"curl -LO (\S+)", _EXAMPLE[0])
    if _REAL:
        return {url: Path(_REAL, _SCRIPT).read_bytes(), f"{_DATASETS}mnist.npz": Path(_REAL, "mnist.npz").read_bytes()}
    files = {url: (SCRIPTS / "inputs" / "recipe.py").read_bytes()}
    for name, count in (("train", 256), ("t10k", 64)):
        labels = bytes(index % 10 for index in range(count))
        images = bytes((index * 7 + index // 784 % 10 * 20) % 256 for index in range(count * 784))
        files[f"{_DATASETS}{name}-labels-idx1-ubyte.gz"] = gzip.compress(bytes(8) + labels, 1, mtime=0)
        files[f"{_DATASETS}{name}-images-idx3-ubyte.gz"] = gzip.compress(bytes(16) + images, 1, mtime=0)
    return files


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    (tmp_path / "authority").mkdir()
    with answering(tmp_path / "authority", *_HOSTS) as hosts:
        hosts.files = _served()
        yield hosts


def _run(command: str, folder: Path, environment: dict[str, str]) -> str:
    path = f"{Path(COMMAND[0]).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, **environment, "PATH": path}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=variables, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_page_repeats_what_keras_trains(hosts: Hosts, tmp_path: Path) -> None:
    """Every command of the page, in its order; the lock of packages only for the real script, which needs it."""
    folder = tmp_path / "project"
    folder.mkdir()
    cache = {"SAMEBITS_CACHE": str(own_cache(tmp_path / "cache"))}
    packages = [line for line in _EXAMPLE if "requirements.in" in line or line == "samebits lock"]
    assert len(packages) == 2
    results = []
    for command in [line for line in _EXAMPLE if line not in packages or _REAL]:
        asks = command.startswith(("curl", "samebits fetch"))
        out = _run(command, folder, cache | (hosts.environment | {"CURL_CA_BUNDLE": _bundle(hosts)} if asks else {}))
        results += re.findall("^result (.*)$", out, re.MULTILINE)
        if command.startswith("samebits fetch"):
            hosts.asked.clear()
    assert out.splitlines()[-1].startswith("identical: 1 model")
    lock = read_lock(folder / "inputs.lock")
    assert {file.url for file in lock.files} == {url for url in hosts.files if url.startswith(_DATASETS)}
    records = [read_record(path) for path in sorted(folder.glob("runs/*/record.json"))]
    assert {record.recipe.inputs for record in records} == {lock.digest}
    for command in _PLAIN:
        out = _run(command.replace("train.py", _SCRIPT), folder, cache)
    results += re.findall("^result (.*)$", out, re.MULTILINE)
    # Two trainings, and one without the launcher.
    assert (len(results), len(set(results))) == (3, 1)
    assert hosts.asked == []


def _bundle(hosts: Hosts) -> str:
    return hosts.environment["SSL_CERT_FILE"]
