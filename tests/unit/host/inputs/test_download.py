"""Downloads: only the digest of the whole file decides, whatever the server or the connection does."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.inputs_lock import InputsLock, PinnedFile, read_lock
from samebits.host import console
from samebits.host.fetch.script_fetch import export_inputs, fetch_locked, import_inputs
from samebits.host.inputs import download
from samebits.host.inputs.obtain import obtain
from samebits.host.inputs.store import InputStore, provide
from support.hosts import Hosts

pytestmark = pytest.mark.usefixtures("hosts", "store")

_CONTENT = bytes(range(256)) * 40
_URL = "https://example.com/a.bin"
_FILE = PinnedFile(path="home/a.bin", digest=Digest.of_bytes(_CONTENT), size=len(_CONTENT), url=_URL)
_LOCK = InputsLock.of([_FILE])


def _refused(*files: PinnedFile, offline: bool = False) -> str:
    with pytest.raises(InputError) as error:
        obtain(files, offline=offline)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_is_fetched_once(hosts: Hosts) -> None:
    hosts.files[_URL] = _CONTENT
    assert obtain([replace(_FILE, size=None)]) == [_FILE]
    obtain([_FILE])
    assert hosts.urls() == [_URL]
    assert (provide(_LOCK) / "home" / "a.bin").read_bytes() == _CONTENT


@pytest.mark.parametrize("size", [len(_CONTENT), None])
def test_one_changed_byte_is_refused(size: int | None, hosts: Hosts, store: InputStore) -> None:
    hosts.files[_URL] = _CONTENT[:-1] + b"\0"
    message = _refused(replace(_FILE, size=size))
    assert f"{_URL} is another file now" in message
    assert _FILE.digest.hex in message
    assert Digest.of_bytes(hosts.files[_URL]).hex in message
    assert not store.holds(_FILE)
    assert not store.partial(_FILE.digest).exists()


def test_a_longer_file_is_not_read_to_its_end(hosts: Hosts, store: InputStore) -> None:
    hosts.files[_URL] = _CONTENT + bytes(9 << 20)
    assert "is another file now" in _refused(_FILE)
    assert not store.holds(_FILE)


def test_a_file_of_unknown_size_does_not_fill_the_disk(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository may declare an input whose server never ends."""
    hosts.files[_URL] = _CONTENT + bytes(9 << 20)
    monkeypatch.setattr(download, "_most_bytes", lambda *_: 1 << 20)
    assert "sends more than 1 MiB, most of the free space" in _refused(replace(_FILE, size=None))


def test_a_file_that_is_gone(store: InputStore) -> None:
    assert "answers 404 Not Found: home/a.bin is gone there" in _refused(_FILE)
    assert not store.holds(_FILE)


def test_a_redirect_to_another_host_counts_by_its_content(hosts: Hosts, store: InputStore) -> None:
    other = "https://mirror.example.org/b"
    hosts.redirects[_URL] = other
    hosts.files[other] = b"something else"
    assert "is another file now" in _refused(_FILE)
    hosts.files[other] = _CONTENT
    obtain([_FILE])
    assert store.holds(_FILE)


def test_a_download_goes_on_where_it_stopped(hosts: Hosts, store: InputStore) -> None:
    hosts.files[_URL], hosts.cut[_URL] = _CONTENT, 4_000
    message = _refused(_FILE)
    assert "stopped after 4,000 bytes" in message
    assert "run `samebits fetch` again to continue there" in message
    del hosts.cut[_URL]
    hosts.asked.clear()
    obtain([_FILE])
    assert hosts.asked == [(_URL, "bytes=4000-")]
    assert store.holds(_FILE)


@pytest.mark.parametrize("size", [1 << 19, None])
def test_a_long_download_shows_how_far_it_is(
    size: int | None, hosts: Hosts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a declared file, the server says how large it is."""
    hosts.files[_URL] = bytes(1 << 19)
    file = replace(_FILE, digest=Digest.of_bytes(hosts.files[_URL]), size=size)
    assert console._QUIET_SECONDS == 2.0
    monkeypatch.setattr(console, "_QUIET_SECONDS", 0.0)
    opened: list[int] = []
    show = console._LateBar._open

    def noting(bar: console._LateBar, total: int) -> None:
        opened.append(total)
        show(bar, total)

    monkeypatch.setattr(console._LateBar, "_open", noting)
    obtain([file])
    assert opened == [1 << 19]
    assert re.search(r"fetching the inputs .* 512\.0/512\.0 KiB", capsys.readouterr().err)


def test_what_was_kept_of_another_version_is_dropped(hosts: Hosts, store: InputStore) -> None:
    store.partial(_FILE.digest).write_bytes(b"x" * 4_000)
    hosts.files[_URL] = _CONTENT
    obtain([_FILE])
    assert [wanted for _, wanted in hosts.asked] == ["bytes=4000-", None]
    assert store.holds(_FILE)


def test_a_complete_partial_file_needs_no_request(hosts: Hosts, store: InputStore) -> None:
    store.partial(_FILE.digest).write_bytes(_CONTENT)
    obtain([_FILE])
    assert hosts.asked == []
    store.path(_FILE.digest).unlink()
    # Without a known size the server is asked, and has nothing more.
    store.partial(_FILE.digest).write_bytes(_CONTENT)
    hosts.files[_URL] = _CONTENT
    obtain([replace(_FILE, size=None)])
    assert hosts.asked == [(_URL, f"bytes={len(_CONTENT)}-")]


def test_without_network_or_url_the_line_says_what_to_do(hosts: Hosts) -> None:
    assert "1 input not here, and the network may not be used: home/a.bin" in _refused(_FILE, offline=True)
    assert "1 input not here, and their URLs are not known" in _refused(replace(_FILE, url=None))
    assert hosts.asked == []


def test_no_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert f"the download of {_URL} stopped after 0 bytes" in _refused(_FILE)


def test_fetch_without_a_script_gets_what_the_lock_names(hosts: Hosts, store: InputStore, tmp_path: Path) -> None:
    path = tmp_path / "inputs.lock"
    with pytest.raises(InputError, match="samebits fetch SCRIPT` writes it"):
        fetch_locked(path, tmp_path)
    _LOCK.write(path)
    hosts.files[_URL] = _CONTENT
    assert fetch_locked(path, tmp_path) == _LOCK
    # A file of the store that was changed by hand is fetched again.
    at = store.path(_FILE.digest)
    at.chmod(0o644)
    at.write_bytes(_CONTENT[::-1])
    fetch_locked(path, tmp_path)
    assert at.read_bytes() == _CONTENT
    assert hosts.urls() == [_URL, _URL]


def test_a_lock_edited_by_hand_is_refused(hosts: Hosts, tmp_path: Path) -> None:
    hosts.files[_URL] = _CONTENT
    obtain([_FILE])
    path = tmp_path / "inputs.lock"
    InputsLock.of([replace(_FILE, digest=Digest.of_bytes(b"other"))]).write(path)
    with pytest.raises(InputError, match="is another file now"):
        fetch_locked(path, tmp_path)
    InputsLock.of([replace(_FILE, size=3)]).write(path)
    with pytest.raises(InputError, match="is another file now"):
        fetch_locked(path, tmp_path)


def test_declared_files_enter_the_lock(hosts: Hosts, tmp_path: Path) -> None:
    hosts.files[_URL] = _CONTENT
    (tmp_path / "samebits.toml").write_text(
        f'[[inputs]]\nurl = "{_URL}"\nsha256 = "{_FILE.digest.hex}"\npath = "~/a.bin"\n'
    )
    assert fetch_locked(tmp_path / "inputs.lock", tmp_path) == _LOCK
    assert read_lock(tmp_path / "inputs.lock") == _LOCK


def test_files_go_to_another_machine(hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.files[_URL] = _CONTENT
    obtain([_FILE])
    export_inputs(_LOCK, tmp_path / "stick")
    assert (tmp_path / "stick" / "home" / "a.bin").read_bytes() == _CONTENT
    assert read_lock(tmp_path / "stick" / "inputs.lock") == _LOCK
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "other"))
    assert import_inputs(tmp_path / "stick", _LOCK) == []
    assert (provide(_LOCK) / "home" / "a.bin").read_bytes() == _CONTENT
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "third"))
    (tmp_path / "stick" / "home" / "a.bin").write_bytes(_CONTENT[::-1])
    assert import_inputs(tmp_path / "stick", _LOCK) == [_FILE]
    assert os.listdir(tmp_path / "third" / "inputs" / "objects") == []
