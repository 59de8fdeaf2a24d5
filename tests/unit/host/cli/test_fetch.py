"""`samebits fetch` without a script: what the lock and `samebits.toml` name, and how it gets to another machine."""

from collections.abc import Callable
from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.inputs_lock import InputsLock, PinnedFile
from support.command import Done, load_json
from support.hosts import answering

_URL = "https://example.com/a.csv"
_LOCK = InputsLock.of([PinnedFile(path="work/data/a.csv", digest=Digest.of_bytes(b"1,2"), size=3, url=_URL)])
_DECLARED = f"""[[inputs]]
url = "{_URL}"
sha256 = "{_LOCK.files[0].digest.hex}"
path = "data/a.csv"
"""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """From here on, this is another machine: nothing in its store, and no network."""

    def move(name: str) -> None:
        monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / name))
        for variable in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(variable, "http://127.0.0.1:9")

    return move


def test_declared_files_are_fetched_and_taken_to_another_machine(
    samebits: Callable[..., Done],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: Callable[[str], None],
) -> None:
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "first"))
    nothing = samebits("fetch")
    assert (nothing.status, nothing.complaint) == (2, "there is no inputs.lock; `samebits fetch SCRIPT` writes it")
    (tmp_path / "samebits.toml").write_text(_DECLARED)
    (tmp_path / "authority").mkdir()
    with answering(tmp_path / "authority", "example.com") as hosts:
        hosts.files[_URL] = b"1,2"
        for _ in range(2):
            done = samebits("fetch", **hosts.environment)
            assert done.line("inputs") == f"inputs.lock: 1 file, 3 bytes, {_LOCK.digest}"
        assert hosts.urls() == [_URL]
    assert (tmp_path / "inputs.lock").read_bytes() == _LOCK.content
    shown = load_json(samebits("fetch", "--json").out)
    assert shown == {"lock": "inputs.lock", "digest": str(_LOCK.digest), "files": [_LOCK.files[0].to_dict()]}
    assert samebits("fetch", "--export", "stick").status == 0
    assert (tmp_path / "stick" / "work" / "data" / "a.csv").read_bytes() == b"1,2"
    elsewhere("second")
    assert "the download of https://example.com/a.csv stopped after 0 bytes" in samebits("fetch").err
    for name in ("inputs.lock", "samebits.toml"):
        (tmp_path / name).unlink()
    done = samebits("fetch", "--import", "stick")
    assert done.line("inputs") == f"inputs.lock: 1 file, 3 bytes, {_LOCK.digest}"
    assert (tmp_path / "inputs.lock").read_bytes() == _LOCK.content


def test_a_file_that_changed_on_the_way_is_not_taken(
    samebits: Callable[..., Done], tmp_path: Path, elsewhere: Callable[[str], None]
) -> None:
    (tmp_path / "stick" / "work" / "data").mkdir(parents=True)
    (tmp_path / "stick" / "work" / "data" / "a.csv").write_bytes(b"1,3")
    _LOCK.write(tmp_path / "stick" / "inputs.lock")
    elsewhere("second")
    done = samebits("fetch", "--import", "stick")
    assert done.status == 2
    assert done.complaint == "stick does not hold work/data/a.csv with the pinned content; export the files again"
    assert not (tmp_path / "inputs.lock").exists()
    assert "there is no folder nothing" in samebits("fetch", "--import", "nothing").err
