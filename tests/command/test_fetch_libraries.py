"""`samebits fetch` with the ways in which scripts get files: each is pinned, or named in one line. Real code paths."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from samebits.core.inputs_lock import read_lock
from samebits.core.record import read_record
from samebits.host.cache_dir import cache_folder
from samebits.host.launch.venv import locked_python
from support.command import SCRIPTS, call
from support.hosts import Hosts, answering
from support.outside import own_cache

pytestmark = [pytest.mark.usefixtures("locked"), pytest.mark.slow]

_HOST = "https://example.com/"
_WEIGHTS = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"
_NAME = "mobilenet_2_5_128_tf_no_top.h5"
_MODEL = "keras.applications.MobileNet((128, 128, 3), alpha=0.25, include_top=False, pooling='avg', weights={})"
_SCRIPT = f"""
import os, urllib.request
import keras, numpy as np
base = {_MODEL.format("'imagenet'")}
folder = keras.utils.get_file("a.tar.gz", "{_HOST}a.tar.gz", untar=True)
other = keras.utils.get_file("b.tar.gz", "{_HOST}b.tar.gz", extract=True, cache_dir=".", cache_subdir="sets")
if not os.path.exists("c.csv"):
    urllib.request.urlretrieve("{_HOST}c.csv", "c.csv")
found = [path for top in (folder, other) for path, _, names in os.walk(top) if "in.txt" in names]
print("unpacked", len(found))
x = np.loadtxt("c.csv", delimiter=",") + np.loadtxt("{_HOST}d.csv", delimiter=",")
base.trainable = False
model = keras.Sequential([base, keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(np.ones((4, 128, 128, 3)) * x.sum(), np.ones((4, 1)), epochs=1, verbose=0)
print("sum", float(np.sum(base.get_weights()[0])))
"""
_PATHS = [f"home/.keras/models/{_NAME}", "home/.keras/datasets/a.tar.gz", "work/c.csv"]
_PATHS += ["work/example.com/d.csv", "work/sets/b.tar.gz"]

_WHEEL = ("pip", "wheel", "-q", "--no-deps", "--wheel-dir", "wheels", "promise")


def _archive(text: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as file:
        member = tarfile.TarInfo("in.txt")
        member.size = len(text)
        file.addfile(member, io.BytesIO(text))
    return content.getvalue()


def _weights(folder: Path) -> bytes:
    """Weights as Keras reads them for this model; any numbers will do."""
    text = f"import keras; keras.utils.set_random_seed(1); {_MODEL.format('None')}.save('{folder}/w.h5')"
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([locked_python(), "-c", text], env=environment, check=True, capture_output=True, timeout=300)
    return (folder / "w.h5").read_bytes()


@pytest.fixture
def served(tmp_path: Path) -> tuple[Hosts, dict[str, str]]:
    """Contents by URL, and the environment of calls: our proxy, and a store of our own."""
    cache = own_cache(tmp_path / "cache")
    hosts = Hosts(tmp_path)
    hosts.files = {f"{_HOST}{name}.tar.gz": _archive(name.encode()) for name in "ab"} | {
        _HOST + "c.csv": b"1,2\n",
        _HOST + "d.csv": b"3,4\n",
    }
    return hosts, {"SAMEBITS_CACHE": str(cache)}


def test_weights_archives_and_tables_are_pinned(served: tuple[Hosts, dict[str, str]], tmp_path: Path) -> None:
    files, cache = served
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(_SCRIPT)
    authority = tmp_path / "authority"
    authority.mkdir()
    with answering(authority, "storage.googleapis.com", "example.com") as hosts:
        hosts.files = files.files | {_WEIGHTS + _NAME: _weights(tmp_path)}
        environment = hosts.environment | cache
        fetched = call("fetch", "--runtime", "venv", "train.py", folder=folder, **environment)
        assert fetched.status == 0, fetched.err
        lock = read_lock(folder / "inputs.lock")
        assert [file.path for file in lock.files] == sorted(_PATHS)
        assert {file.url for file in lock.files} == set(hosts.files)
        hosts.asked.clear()
        done = call("train", "--runtime", "venv", "--strict", "train.py", folder=folder, **environment)
        assert done.status == 0, done.err
        assert done.line("unpacked") == "2"
        assert call("verify", "last", folder=folder, **environment).out.splitlines()[-1].startswith("identical: ")
        assert hosts.asked == []


def test_what_is_stored_in_no_file_is_refused(served: tuple[Hosts, dict[str, str]], tmp_path: Path) -> None:
    """A fetch says so, and a virtual environment, which has a network, records the connection.

    `pandas.read_csv` calls the same function.
    """
    read = "urllib.request.urlopen('https://example.com/c.csv').read()"
    files, cache = served
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(
        f"import urllib.request\nimport keras, numpy as np\n{read}\nmodel = keras.Sequential([keras.layers.Dense(1)])\n"
        "model.compile('sgd', 'mse')\nmodel.fit(np.ones((4, 1)), np.ones((4, 1)), verbose=0)\n"
    )
    authority = tmp_path / "authority"
    authority.mkdir()
    with answering(authority, "example.com") as hosts:
        hosts.files = files.files
        environment = hosts.environment | cache
        fetched = call("fetch", "--runtime", "venv", "train.py", folder=folder, **environment)
        assert (
            "not pinned, as it is no file in the script's folder or home: https://example.com/c.csv; a run has no"
            in fetched.err
        )
        assert not (folder / "inputs.lock").exists()
        done = call("train", "--runtime", "venv", "train.py", folder=folder, **environment)
        record = read_record(folder / done.run / "record.json")
        assert [(use.line, use.kind) for use in record.environment.unpinned or ()] == [(3, "connection")]
        strict = call("train", "--runtime", "venv", "--strict", "train.py", folder=folder, **environment)
        assert (strict.status, "train.py:3: " in strict.err, "the run is strict" in strict.err) == (2, True, True)


def _environments() -> set[Path]:
    return set(cache_folder("venvs").iterdir())


def _remove(package: str, before: set[Path]) -> None:
    """Remove the environment that a test made; other tests may have made others meanwhile."""
    for new in _environments() - before:
        if list(new.glob(f"lib/python*/site-packages/{package}")):
            shutil.rmtree(new)


def _repository(folder: Path) -> dict[str, bytes]:
    """The files of a Keras model in a repository of Hugging Face."""
    text = "import keras; m = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]); m.compile('sgd', 'mse')"
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3"}
    save = f"{text}; m.save('{folder}/m.keras')"
    subprocess.run([locked_python(), "-c", save], env=environment, check=True, capture_output=True, timeout=300)
    with zipfile.ZipFile(folder / "m.keras") as file:
        return {name: file.read(name) for name in file.namelist()}


def _serve_repository(hosts: Hosts, files: dict[str, bytes]) -> None:
    """What huggingface.co answers for a repository of one commit; weights come from another host, as large files do."""
    commit, site = "a" * 40, "https://huggingface.co"
    shown = {"id": "org/tiny", "sha": commit, "siblings": [{"rfilename": name} for name in files], "tags": []}
    listed = [{"type": "file", "path": name, "size": len(files[name]), "oid": name} for name in files]
    hosts.files[f"{site}/api/models/org/tiny/revision/main"] = json.dumps(shown).encode()
    hosts.files[f"{site}/api/models/org/tiny/tree/{commit}?recursive=true&expand=false"] = json.dumps(listed).encode()
    for name, content in files.items():
        url = f"{site}/org/tiny/resolve/{commit}/{name}"
        etag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
        hosts.headers[url] = etag | {"X-Linked-Etag": etag["ETag"], "X-Linked-Size": str(len(content))}
        if name.endswith(".h5"):
            hosts.redirects[url] = f"https://cdn.example.org/{name}?signature=1"
            url = hosts.redirects[url]
        hosts.files[url] = content


def test_a_model_of_hugging_face(tmp_path: Path) -> None:
    """Its cache is full of links, and its library speaks neither `urllib` nor `requests`. Takes minutes."""
    before = _environments()
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "requirements.in").write_text("huggingface-hub\n")
    (folder / "empty.py").write_text("import huggingface_hub\n")
    (folder / "train.py").write_text(
        "import keras, numpy as np\nmodel = keras.saving.load_model('hf://org/tiny')\n"
        "model.fit(np.ones((8, 3)), np.ones((8, 1)), epochs=2, verbose=0)\n"
    )
    cache = {"SAMEBITS_CACHE": str(own_cache(tmp_path / "cache"))}
    assert call("lock", folder=folder, **cache).status == 0
    assert call("train", "--runtime", "venv", "empty.py", folder=folder, **cache).status == 0
    authority = tmp_path / "authority"
    authority.mkdir()
    with answering(authority, "huggingface.co", "cdn.example.org") as hosts:
        _serve_repository(hosts, _repository(tmp_path))
        environment = cache | hosts.environment
        fetched = call("fetch", "--runtime", "venv", "train.py", folder=folder, **environment)
        assert fetched.status == 0, fetched.err
        assert "not pinned" not in fetched.err
        urls = {file.url for file in read_lock(folder / "inputs.lock").files}
        asked = {url for url in hosts.urls() if "/resolve/" in url}
        assert urls == asked | {None}, "the commit's own files, and what the library notes beside them"
        hosts.asked.clear()
        done = call("train", "--runtime", "venv", "--strict", "train.py", folder=folder, **environment)
        assert done.status == 0, done.err
        assert call("verify", "last", folder=folder, **environment).out.splitlines()[-1] == "identical: 1 model"
        assert hosts.asked == []
    _remove("huggingface_hub", before)


def test_a_dataset_of_tensorflow_datasets(tmp_path: Path) -> None:
    """With a lock of its packages; one has no wheel, so that docs/network-inputs.md builds it. Takes minutes."""
    before = _environments()
    folder = tmp_path / "project"
    shutil.copytree(SCRIPTS / "inputs" / "points", folder / "points")
    shutil.copy(SCRIPTS / "inputs" / "with_points.py", folder / "train.py")
    (folder / "requirements.in").write_text("tensorflow-datasets\nimportlib-resources\n")
    subprocess.run([sys.executable, "-m", *_WHEEL], cwd=tmp_path, check=True, timeout=300)
    wheels = " ".join(filter(None, (os.environ.get("PIP_FIND_LINKS"), str(tmp_path / "wheels"))))
    environment = {"SAMEBITS_CACHE": str(own_cache(tmp_path / "cache")), "PIP_FIND_LINKS": wheels}
    assert call("lock", folder=folder, **environment).status == 0
    # Makes the virtual environment, with the real network: the proxy below knows no index.
    (folder / "empty.py").write_text("import tensorflow_datasets\n")
    assert call("train", "--runtime", "venv", "empty.py", folder=folder, **environment).status == 0
    points = io.BytesIO()
    with zipfile.ZipFile(points, "w") as file:
        file.writestr("points.csv", "".join(f"{n % 7},{n % 5},{n % 2}\n" for n in range(64)))
    authority = tmp_path / "authority"
    authority.mkdir()
    with answering(authority, "example.com", "storage.googleapis.com") as hosts:
        hosts.files = {f"{_HOST}points.zip": points.getvalue()}
        fetched = call("fetch", "--runtime", "venv", "train.py", folder=folder, **environment, **hosts.environment)
        assert fetched.status == 0, fetched.err
        assert "not pinned" not in fetched.err
    prepared = "home/tensorflow_datasets/points/1.0.0"
    names = ("dataset_info.json", "features.json", "points-train.tfrecord-00000-of-00001")
    assert [file.path for file in read_lock(folder / "inputs.lock").files] == [f"{prepared}/{name}" for name in names]
    done = call("train", "--runtime", "venv", "train.py", folder=folder, **environment)
    assert (done.status, done.line("rows")) == (0, "64"), done.err
    assert call("verify", "last", folder=folder, **environment).out.splitlines()[-1] == "identical: 1 model"
    _remove("tensorflow_datasets", before)
