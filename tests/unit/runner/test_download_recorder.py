"""What Python's HTTP libraries receive is found by its content, under the URL that was asked for."""

import gzip
import hashlib
import http.client
import json
import shutil
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from samebits.runner.download_recorder import recording_downloads
from support.hosts import Hosts, answering


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    with answering(tmp_path_factory.mktemp("hosts"), "example.com", "mirror.example.org") as hosts:
        for name, value in hosts.environment.items():
            monkeypatch.setenv(name, value)
        yield hosts


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_nothing_is_patched_outside_of_a_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAMEBITS_FETCH", raising=False)
    before = http.client.HTTPResponse.read, http.client.HTTPConnection.getresponse, zipfile.ZipFile.extractall
    with recording_downloads():
        after = http.client.HTTPResponse.read, http.client.HTTPConnection.getresponse, zipfile.ZipFile.extractall
        assert after == before


def test_urls_are_found_by_content(hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMEBITS_FETCH", str(tmp_path / "scratch" / "report"))
    (tmp_path / "scratch").mkdir()
    first, second = "https://example.com/first", "https://example.com/second"
    hosts.redirects = {first: "https://mirror.example.org/signed?key=1"}
    hosts.files = {hosts.redirects[first]: b"one" * 1000, second: b"two" * 100_000, "http://example.com/3": b"3"}
    with recording_downloads():
        urllib.request.urlretrieve(first, tmp_path / "first")
        with requests.get(second, stream=True, timeout=30) as response:
            (tmp_path / "second").write_bytes(b"".join(response.iter_content(1000)))
        requests.get("http://example.com/3", timeout=30)
        requests.get("https://example.com/gone", timeout=30)
    report = json.loads((tmp_path / "scratch" / "report").read_bytes())
    found = {sha256: body["url"] for body in report["downloads"] for sha256 in body["sha256"]}
    assert found == {
        _sha256((tmp_path / "first").read_bytes()): first,
        _sha256((tmp_path / "second").read_bytes()): second,
        _sha256(b"3"): "http://example.com/3",
    }


def test_what_the_server_packed_is_known_unpacked(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMEBITS_FETCH", str(tmp_path / "report"))
    text = b"a,b\n" * 500
    packed = hosts.files["https://example.com/t.csv"] = gzip.compress(text)
    hosts.headers["https://example.com/t.csv"] = {"Content-Encoding": "gzip"}
    with recording_downloads():
        assert requests.get("https://example.com/t.csv", timeout=30).content == text
    (body,) = json.loads((tmp_path / "report").read_bytes())["downloads"]
    assert body["sha256"] == [_sha256(packed), _sha256(text)]


@pytest.mark.parametrize(("cut", "wanted", "partial"), [(400, -1, True), (None, -1, False), (None, 400, False)])
def test_a_download_that_broke_off_is_no_whole_one(
    cut: int | None,
    wanted: int,
    partial: bool,
    hosts: Hosts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`shutil.copyfileobj` does not notice; who reads only the beginning wants no more."""
    monkeypatch.setenv("SAMEBITS_FETCH", str(tmp_path / "report"))
    url = "https://example.com/cut"
    hosts.files[url] = bytes(1000)
    if cut is not None:
        hosts.cut[url] = cut
    # The opener of other tests keeps their proxy.
    ask = urllib.request.build_opener().open
    with recording_downloads(), ask(url) as response, (tmp_path / "a").open("wb") as file:
        if wanted < 0:
            shutil.copyfileobj(response, file)
        else:
            response.read(0)
            file.write(response.read(wanted))
    (body,) = json.loads((tmp_path / "report").read_bytes())["downloads"]
    assert (body["sha256"], body["partial"]) == ([_sha256((tmp_path / "a").read_bytes())], partial)


def test_members_of_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMEBITS_FETCH", str(tmp_path / "report"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/y.txt", "y")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "a.zip", "inner.zip")
    with recording_downloads():
        with zipfile.ZipFile(tmp_path / "a.zip") as archive:
            archive.extractall(tmp_path / "out")
        with tarfile.open(tmp_path / "a.tar") as archive:
            archive.extractall(path=str(tmp_path / "out"), filter="data")
    unpacked = json.loads((tmp_path / "report").read_bytes())["unpacked"]
    assert unpacked == [
        {"archive": str(tmp_path / "a.zip"), "members": [str(tmp_path / "out" / "x" / "y.txt")]},
        {"archive": str(tmp_path / "a.tar"), "members": [str(tmp_path / "out" / "inner.zip")]},
    ]
