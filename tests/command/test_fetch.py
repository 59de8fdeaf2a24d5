"""`samebits fetch` as a user calls it: the libraries' real code paths, against servers that answer for real hosts.

No path of a library is changed. The files are small, and of the formats that the libraries read.
"""

import gzip
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from samebits.core.inputs_lock import read_lock
from samebits.core.record import read_record
from support.command import Done, call
from support.hosts import Hosts, answering
from support.outside import own_cache

pytestmark = pytest.mark.usefixtures("locked")

_FASHION = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_ARCHIVE = "https://example.com/labels.zip"
_TABLE = "https://example.com/table.csv"
_MOVED = "https://mirror.example.org/signed?key=1"
_SCRIPT = f"""
import os, urllib.request
import keras, numpy as np, requests
(x, y), _ = keras.datasets.fashion_mnist.load_data()
folder = keras.utils.get_file("labels.zip", "{_ARCHIVE}", extract=True)
print("labels", open(os.path.join(folder, "labels.txt")).read())
if not os.path.exists("table.csv"):
    with open("table.csv", "wb") as file:
        file.write(requests.get("{_TABLE}").content)
print("table", open("table.csv").read())
with open("note.txt", "w") as file:
    file.write("own")
model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10)])
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x[:64] / 255.0, y[:64], epochs=2, verbose=0)
print("trained")
"""
_NAMES = ("train-labels", "train-images", "t10k-labels", "t10k-images")
_PATHS = [
    "home/.keras/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz",
    "home/.keras/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz",
    "home/.keras/datasets/fashion-mnist/train-images-idx3-ubyte.gz",
    "home/.keras/datasets/fashion-mnist/train-labels-idx1-ubyte.gz",
    "home/.keras/datasets/labels.zip",
    "work/table.csv",
]


def _files() -> dict[str, bytes]:
    """What the hosts answer: Fashion-MNIST in its own format, and full size, of almost nothing but zeros."""
    labels = bytes(range(10)) * 6_000
    contents = {
        "train-labels-idx1-ubyte.gz": bytes(8) + labels,
        "t10k-labels-idx1-ubyte.gz": bytes(8) + labels[:10_000],
        "train-images-idx3-ubyte.gz": bytes(16) + bytes(range(250)) + bytes(60_000 * 784 - 250),
        "t10k-images-idx3-ubyte.gz": bytes(16) + bytes(10_000 * 784),
    }
    packed = {_FASHION + name: gzip.compress(content, 1, mtime=0) for name, content in contents.items()}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("labels.txt"), "shirt")
    return packed | {_ARCHIVE: archive.getvalue(), _MOVED: b"1,2,3"}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    names = ("storage.googleapis.com", "example.com", "mirror.example.org")
    with answering(tmp_path_factory.mktemp("authority"), *names) as hosts:
        hosts.files = _files()
        hosts.redirects[_TABLE] = _MOVED
        yield hosts


@pytest.fixture(scope="module")
def environment(hosts: Hosts, locked: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A store of our own. And trainings start cold: Keras keeps the path of its cache from its import on."""
    assert locked is None
    return hosts.environment | {"SAMEBITS_CACHE": str(own_cache(tmp_path_factory.mktemp("caches") / "first"))}


@pytest.fixture(scope="module")
def fetched(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A folder with the script and its lock, and what the fetch printed."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "train.py").write_text(_SCRIPT)
    done = call("fetch", "--runtime", "venv", "train.py", folder=folder, **environment)
    assert done.status == 0, done.err
    return folder, done


def test_what_the_script_downloads_is_pinned(fetched: tuple[Path, Done]) -> None:
    folder, done = fetched
    lock = read_lock(folder / "inputs.lock")
    assert [file.path for file in lock.files] == _PATHS
    assert {file.url for file in lock.files} == {*(_FASHION + path.rpartition("/")[2] for path in _PATHS[:4])} | {
        _ARCHIVE,
        _TABLE,
    }
    assert done.line("inputs") == f"inputs.lock: 6 files, {lock.size:,} bytes, {lock.digest}"
    # It ended at its first training step.
    assert "trained" not in done.out
    assert sorted(os.listdir(folder)) == ["inputs.lock", "train.py"]


def test_it_trains_without_network_and_is_verified(
    fetched: tuple[Path, Done], hosts: Hosts, environment: dict[str, str]
) -> None:
    folder, _ = fetched
    hosts.asked.clear()
    done = call("train", "--runtime", "venv", "train.py", folder=folder, **environment)
    assert done.status == 0, done.err
    assert (done.line("labels"), done.line("table")) == ("shirt", "1,2,3")
    record = read_record(folder / done.run / "record.json")
    assert record.recipe.inputs == read_lock(folder / "inputs.lock").digest
    # Inputs are no outputs; what the script writes itself is.
    assert record.result is not None
    assert [item.path for item in record.result.outputs] == ["note.txt"]
    verified = call("verify", "last", folder=folder, **environment)
    assert verified.out.splitlines()[-1] == "identical: 1 model, 1 file"
    assert hosts.asked == []


def test_a_lost_file_is_fetched_again_to_verify(fetched: tuple[Path, Done], hosts: Hosts, tmp_path: Path) -> None:
    """Another cache: nothing but the virtual environment is here."""
    folder, _ = fetched
    lock = read_lock(folder / "inputs.lock")
    (run,) = sorted((folder / "runs").glob("*-train-*"))[:1]
    environment = hosts.environment | {"SAMEBITS_CACHE": str(own_cache(tmp_path / "cache"))}
    missing = call("train", "--runtime", "venv", "train.py", folder=folder, **environment)
    assert missing.status == 2
    assert missing.complaint.startswith("6 of 6 inputs are not here: ")
    before = call("preflight", str(run), folder=folder, **environment)
    assert "`samebits verify` fetches home/.keras/datasets/" in before.out
    trusted = ("--trust-its-code", run.name)  # this cache does not know that it was trained here
    offline = call("verify", str(run), *trusted, "--offline", folder=folder, **environment)
    assert (offline.status, "the network may not be used" in offline.out) == (3, True)
    hosts.asked.clear()
    done = call("verify", str(run), *trusted, folder=folder, **environment)
    assert done.out.splitlines()[-1] == "identical: 1 model, 1 file", done.out + done.err
    assert {url for url, _ in hosts.asked} - {_MOVED} == {file.url for file in lock.files}


def test_another_content_is_not_pinned_silently(
    fetched: tuple[Path, Done], hosts: Hosts, environment: dict[str, str], tmp_path: Path
) -> None:
    folder, _ = fetched
    (tmp_path / "train.py").write_text(_SCRIPT)
    before = (folder / "inputs.lock").read_bytes()
    (tmp_path / "inputs.lock").write_bytes(before)
    hosts.files[_MOVED] = b"1,2,4"
    try:
        refused = call("fetch", "--runtime", "venv", "train.py", folder=tmp_path, **environment)
        assert refused.status == 2
        assert "fetches something else than inputs.lock holds: work/table.csv; add --update" in refused.err
        assert (tmp_path / "inputs.lock").read_bytes() == before
        updated = call("fetch", "--runtime", "venv", "--update", "train.py", folder=tmp_path, **environment)
        assert updated.status == 0, updated.err
        assert (tmp_path / "inputs.lock").read_bytes() != before
    finally:
        hosts.files[_MOVED] = b"1,2,3"


def test_a_script_that_fails_pins_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import keras\nkeras.utils.get_file('a', 'https://example.com/gone')\n")
    done = call("fetch", "--runtime", "venv", "train.py", folder=tmp_path, **environment)
    assert done.status == 2
    assert "URL fetch failure on https://example.com/gone: 404" in done.err
    assert "nothing was pinned" in done.err
    assert not (tmp_path / "inputs.lock").exists()


def test_a_download_that_broke_off_is_not_pinned(hosts: Hosts, environment: dict[str, str], tmp_path: Path) -> None:
    """The script does not notice."""
    (tmp_path / "train.py").write_text(
        f"import shutil, urllib.request\nbody = urllib.request.urlopen('{_ARCHIVE}')\n"
        "with open('a.zip', 'wb') as file:\n    shutil.copyfileobj(body, file)\n"
    )
    hosts.cut[_ARCHIVE] = 40
    try:
        done = call("fetch", "--runtime", "venv", "train.py", folder=tmp_path, **environment)
    finally:
        del hosts.cut[_ARCHIVE]
    assert done.status == 2
    assert f"the script stored what had come: work/a.zip from {_ARCHIVE}; nothing was pinned" in done.err
    assert not (tmp_path / "inputs.lock").exists()
