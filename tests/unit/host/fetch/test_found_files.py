"""Which files of a fetch are inputs."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.errors import InputError, RecordError
from samebits.core.record import FAILED, Outcome, Record
from samebits.host.fetch.found_files import FetchReport, find_inputs
from samebits.host.fetch.script_fetch import _require_success, adopt, require_whole
from samebits.host.inputs.store import InputStore


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


_FILES = {
    "home/.keras/keras.json": b"{}",
    "home/.keras/datasets/a_archive": b"archive",
    "home/.keras/datasets/a/x.txt": b"member",
    "home/.keras/datasets/own.npy": b"prepared by the script",
    "home/.cache/huggingface/hub/model.bin": b"model",
    "home/.cache/huggingface/.locks/model.lock": b"",
    "home/.cache/matplotlib/fontlist.json": b"fonts",
    "home/.samebits/tmp/left": b"temporary",
    "home/tensorflow_datasets/downloads/raw.zip": b"raw",
    "home/tensorflow_datasets/mnist/3.0.1/mnist-train.tfrecord": b"prepared",
    "home/elsewhere/downloaded": b"download",
    "home/elsewhere/written": b"own",
    "outputs/table.csv": b"table",
    "outputs/written.txt": b"own output",
}
_DOWNLOADED = (b"archive", b"download", b"table", b"raw", b"model")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in _FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "home" / ".cache" / "huggingface" / "link").symlink_to("hub/model.bin")
    (tmp_path / "home" / ".keras" / "dangling").symlink_to("/inputs/gone")
    # A link out of the folder would take files of this machine for downloads.
    (tmp_path / "home" / ".keras" / "leads-out").symlink_to("/etc/hostname")
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "home" / ".keras" / "leads-up").symlink_to("../../secret")
    return tmp_path


def _report(folder: Path, *partial: bytes) -> FetchReport:
    downloads = [
        {"url": f"https://example.com/{number}", "sha256": ["0" * 64, _sha256(content)], "partial": content in partial}
        for number, content in enumerate(_DOWNLOADED)
    ]
    unpacked = [{"archive": "/tmp/.keras/datasets/a_archive", "members": ["/tmp/.keras/datasets/a/x.txt"]}]
    (folder / "report").write_text(json.dumps({"downloads": downloads, "unpacked": unpacked}))
    return FetchReport.read(folder / "report")


def _found(folder: Path, *, unpacked: bool) -> dict[str, str | None]:
    found = find_inputs(folder / "home", "/tmp", folder / "outputs", _report(folder), unpacked=unpacked)
    return {file.path: file.url for file in found}


_PINNED = {
    "home/.keras/datasets/a_archive": "https://example.com/0",
    "home/.keras/datasets/own.npy": None,
    "home/.cache/huggingface/hub/model.bin": "https://example.com/4",
    "home/.cache/huggingface/link": "https://example.com/4",
    "home/tensorflow_datasets/mnist/3.0.1/mnist-train.tfrecord": None,
    "home/elsewhere/downloaded": "https://example.com/1",
    "work/table.csv": "https://example.com/2",
}


def test_downloads_and_what_caches_hold(folder: Path) -> None:
    assert _found(folder, unpacked=False) == _PINNED


def test_what_is_unpacked_is_kept_where_asked(folder: Path) -> None:
    assert _found(folder, unpacked=True) == _PINNED | {"home/.keras/datasets/a/x.txt": None}


def test_what_broke_off_is_not_pinned(folder: Path) -> None:
    """But where it is in no file, or came as a whole from elsewhere."""
    report = _report(folder, b"table", b"raw")
    found = find_inputs(folder / "home", "/tmp", folder / "outputs", report, unpacked=False)
    with pytest.raises(InputError, match=r"stored what had come: work/table\.csv from https://example\.com/2; nothing"):
        require_whole(found, report)
    values = json.loads((folder / "report").read_text())
    values["downloads"].append({"url": "https://example.org/", "sha256": [_sha256(b"table")], "partial": False})
    (folder / "report").write_text(json.dumps(values))
    require_whole(found, FetchReport.read(folder / "report"))


def test_a_link_is_taken_before_what_it_leads_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store moves files away, and Hugging Face's cache is full of links."""
    monkeypatch.setenv("SAMEBITS_CACHE", str(folder / "cache"))
    store = InputStore()
    found = find_inputs(folder / "home", "/tmp", folder / "outputs", _report(folder), unpacked=False)
    # The link comes after what it leads to.
    pinned = {file.path: file for file in adopt(found[::-1], store)}
    assert pinned.keys() == _PINNED.keys()
    assert all(store.holds(file) for file in pinned.values())
    names = ("home/.cache/huggingface/link", "home/.cache/huggingface/hub/model.bin")
    assert {(pinned[name].digest.hex, pinned[name].size) for name in names} == {(_sha256(b"model"), 5)}


@pytest.mark.parametrize("content", ["", "[]", '{"downloads": [{"url": 1}], "unpacked": []}'])
def test_a_broken_report_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "report").write_text(content)
    with pytest.raises(RecordError, match="left no report"):
        FetchReport.read(tmp_path / "report")


def test_localhost_is_another_one_in_a_container(example: Record) -> None:
    message = "the script failed: URLError: <urlopen error [Errno 111] Connection refused>"
    failed = replace(example, outcome=Outcome(state=FAILED, message=message))
    with pytest.raises(InputError, match=r"localhost is the container's own.*--runtime venv") as caught:
        _require_success(failed, contained=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="fix that and run"):
        _require_success(failed, contained=False)
