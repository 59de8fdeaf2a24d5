"""The machine's fingerprint is computed once, and again as soon as anything changes that it depends on."""

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core import cpu_info
from samebits.core.determinism_profile import Profile
from samebits.core.digest import Digest
from samebits.core.recipe import ImageIdentity
from samebits.core.run_setup import RunSetup
from samebits.host.cli.fingerprint import fingerprint_command
from samebits.host.launch.runtime import Runtime
from samebits.host.rerun import fingerprint_cache
from samebits.host.rerun.fingerprint_cache import machine_fingerprint

_OTHER = Digest.of_bytes(b"other")
_SOFTWARE = ImageIdentity(lock=Digest.of_bytes(b"lock"), source=Digest.of_bytes(b"source"), python="3.13.5")


@dataclass
class Software:
    """Plays the software of a run; counts how often it is started."""

    identity: ImageIdentity = _SOFTWARE
    answer: str = '{"operations": {"tf.exp": "0123456789abcdef"}}'
    status: int = 0
    started: list[tuple[str, ...]] = field(default_factory=list)
    here: bool = True

    def query(self, words: tuple[str, ...], _variables: Mapping[str, str]) -> tuple[int, str]:
        self.started.append(words)
        return self.status, self.answer

    @property
    def runtime(self) -> Runtime:
        setup = RunSetup(image=self.identity)
        return Runtime(setup=setup, prepare=lambda: None, run=lambda *_: 0, query=self.query, here=self.here)

    def fingerprint(self, profile: Profile | None = None) -> Mapping[str, str] | None:
        return machine_fingerprint(profile or Profile(), self.runtime).operations


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path))
    return tmp_path / "fingerprints"


def test_the_second_time_nothing_is_started() -> None:
    software = Software()
    first, second = software.fingerprint(), software.fingerprint()
    assert first == second == {"tf.exp": "0123456789abcdef"}
    assert software.started == [("fingerprint", "--profile", "native", "--threads", "2", "--json")]


def test_the_command_always_computes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    software = Software()
    software.fingerprint()
    monkeypatch.setattr("samebits.host.launch.runtime.choose_runtime", lambda _: software.runtime)
    for _ in range(2):
        assert fingerprint_command(threads=None, profile="native", image=None, runtime="venv", as_json=True) == 0
    assert len(software.started) == 3
    assert capsys.readouterr().out.splitlines() == 2 * [software.answer]


@pytest.mark.parametrize(
    "identity",
    [
        replace(_SOFTWARE, lock=_OTHER),
        replace(_SOFTWARE, packages=_OTHER),
        replace(_SOFTWARE, source=_OTHER),
        replace(_SOFTWARE, config=_OTHER),
        replace(_SOFTWARE, base=_OTHER),
        replace(_SOFTWARE, python="3.13.6"),
    ],
    ids=["lock", "packages", "source", "config", "base", "python"],
)
def test_other_software(identity: ImageIdentity) -> None:
    Software().fingerprint()
    other = Software(identity=identity)
    other.fingerprint()
    assert len(other.started) == 1


@pytest.mark.parametrize("profile", [Profile(threads=1), Profile(name="portable", threads=1)])
def test_another_profile_or_other_threads(profile: Profile) -> None:
    software = Software()
    for each in (Profile(), profile, profile, Profile()):
        software.fingerprint(each)
    assert len(software.started) == 2


def _another_cpu(name: str, value: Any) -> Callable[[pytest.MonkeyPatch], None]:
    def change(monkeypatch: pytest.MonkeyPatch) -> None:
        cpu = cpu_info.describe_cpu()
        monkeypatch.setattr(fingerprint_cache, "describe_cpu", lambda: replace(cpu, **{name: value}))

    return change


@pytest.mark.parametrize(
    "change",
    [
        _another_cpu("model", "another CPU"),
        _another_cpu("flags", ("sse",)),
        _another_cpu("caches", ()),
        lambda monkeypatch: monkeypatch.setattr(fingerprint_cache, "microcode", lambda: "0xffff"),
        lambda monkeypatch: monkeypatch.setattr(platform, "release", lambda: "7.0.0"),
        lambda monkeypatch: monkeypatch.setattr(platform, "version", lambda: "#2"),
        lambda monkeypatch: monkeypatch.setattr(fingerprint_cache, "_c_library", lambda: "another"),
        lambda monkeypatch: monkeypatch.setattr(fingerprint_cache, "_BOOT_ID", Path("/dev/null")),
    ],
    ids=["model", "flags", "caches", "microcode", "release", "kernel", "c-library", "boot"],
)
def test_another_machine(change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    software = Software()
    software.fingerprint()
    change(monkeypatch)
    software.fingerprint()
    software.fingerprint()
    assert len(software.started) == 2


def test_other_cores_are_the_same_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    software = Software()
    software.fingerprint()
    _another_cpu("cores_usable", 1)(monkeypatch)
    software.fingerprint()
    assert len(software.started) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"0123456789abcdef", b"0123456789abcdee"),
        lambda _: b"[]",
        lambda _: b"",
        lambda content: content.replace(b'"version": "1.0"', b'"version": "2.0"'),
    ],
    ids=["cut", "flipped", "list", "empty", "version"],
)
def test_a_damaged_entry_is_computed_again(damage: Callable[[bytes], bytes], cache: Path) -> None:
    software = Software()
    software.fingerprint()
    (entry,) = cache.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    assert software.fingerprint() == {"tf.exp": "0123456789abcdef"}
    assert len(software.started) == 2
    assert entry.read_bytes() == whole


def test_an_entry_under_another_key_is_not_believed(cache: Path) -> None:
    """As after a file was copied."""
    software = Software()
    software.fingerprint()
    (first,) = cache.iterdir()
    software.fingerprint(Profile(threads=1))
    (second,) = set(cache.iterdir()) - {first}
    second.write_bytes(first.read_bytes())
    software.fingerprint(Profile(threads=1))
    assert len(software.started) == 3


@pytest.mark.parametrize(("status", "answer"), [(2, "{}"), (-4, ""), (0, '{"operations": 1}')])
def test_software_that_gives_no_answer_is_asked_again(status: int, answer: str, cache: Path) -> None:
    software = Software(status=status, answer=answer)
    assert software.fingerprint() is None
    assert software.fingerprint() is None
    assert len(software.started) == 2
    assert not cache.exists() or not list(cache.iterdir())


def test_a_cache_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "file"))
    software = Software()
    assert software.fingerprint() == json.loads(software.answer)["operations"]


def test_another_machine_that_computes_is_always_asked() -> None:
    software = Software(here=False)
    software.fingerprint()
    software.fingerprint()
    assert len(software.started) == 2


def test_a_machine_that_does_not_show_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint_cache, "_BOOT_ID", tmp_path / "hidden")
    software = Software()
    for _ in range(2):
        assert software.fingerprint() == {"tf.exp": "0123456789abcdef"}
    assert len(software.started) == 2
