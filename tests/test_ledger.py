"""The ledger's chain, and the lock that tells a run that goes on from one that died."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import on_small_disk, unprivileged
from samebits.digest import Digest
from samebits.errors import StorageError
from samebits.ledger import Ledger, check_ledger, hold, is_alive

_RECIPE = Digest.of_bytes(b"recipe")
_EPOCHS = [{"epoch": number, "loss": (1 / (number + 1)).hex(), "note": "ü"} for number in range(5)]


def _write(path: Path) -> Digest:
    with Ledger(path, _RECIPE) as ledger:
        assert ledger.last == _RECIPE
        for values in _EPOCHS:
            ledger.append(values)
        assert ledger.lines == len(_EPOCHS)
        return ledger.last


def test_each_line_carries_the_digest_of_the_one_before(tmp_path: Path) -> None:
    last = _write(tmp_path / "ledger.jsonl")
    lines = (tmp_path / "ledger.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    previous = str(_RECIPE)
    for line, values in zip(lines, _EPOCHS, strict=True):
        assert json.loads(line) == {**values, "version": "1.0", "previous": previous}
        previous = f"sha256:{hashlib.sha256(line).hexdigest()}"
    assert str(last) == previous


def test_the_same_appends_give_the_same_bytes(tmp_path: Path) -> None:
    assert _write(tmp_path / "one") == _write(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_line_is_there_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, _RECIPE) as ledger:
        for number in range(3):
            ledger.append({"epoch": number})
            assert path.read_bytes().count(b"\n") == number + 1


def _recorded(path: Path, *, lines: int = len(_EPOCHS)) -> dict[str, object]:
    return {"lines": lines, "last": str(_write(path))}


def test_a_ledger_that_is_as_recorded(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    assert check_ledger(path, _RECIPE, _recorded(path)) == "5 lines, each follows the one before"
    path = tmp_path / "empty.jsonl"
    path.touch()
    assert check_ledger(path, _RECIPE, {"lines": 0, "last": str(_RECIPE)}) == "0 lines, each follows the one before"


@pytest.mark.parametrize(
    ("spoil", "verdict"),
    [
        (lambda lines: lines[1:], "line 1 does not follow the one before"),
        (lambda lines: lines[:2] + lines[3:], "line 3 does not follow the one before"),
        (lambda lines: lines[:-1], "its 4 lines are not those that the record names"),
        (lambda _: [], "its 0 lines are not those that the record names"),
        (
            lambda lines: [*lines[:2], lines[2].replace(b'"epoch":2', b'"epoch":7'), *lines[3:]],
            "line 4 does not follow the one before",
        ),
        (
            lambda lines: [*lines[:4], lines[4].replace(b'"epoch":4', b'"epoch":7')],
            "its 5 lines are not those that the record names",
        ),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "line 2 does not follow the one before"),
        (lambda lines: [*lines, lines[-1]], "line 6 does not follow the one before"),
        (lambda lines: [*lines[:4], lines[4][:-1]], "5 lines, each follows the one before"),  # the newline alone
        (
            lambda lines: [*lines[:4], lines[4][:20]],
            "cannot be read after line 5: Unterminated string starting at",
        ),
        (lambda lines: [b"[]\n", *lines[1:]], "cannot be read after line 1: "),
        (lambda lines: [b"{}\n", *lines[1:]], "cannot be read after line 1: 'previous'"),
        (lambda lines: [b"\xff\n", *lines[1:]], "cannot be read after line 1: 'utf-8' codec can't decode"),
    ],
)
def test_a_ledger_that_was_changed(tmp_path: Path, spoil: Callable[[list[bytes]], list[bytes]], verdict: str) -> None:
    path = tmp_path / "ledger.jsonl"
    recorded = _recorded(path)
    path.write_bytes(b"".join(spoil(path.read_bytes().splitlines(keepends=True))))
    found = check_ledger(path, _RECIPE, recorded)
    assert found.startswith(verdict)
    assert found == verdict or verdict.startswith("cannot")


def test_a_ledger_of_another_recipe_or_none(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    recorded = _recorded(path)
    assert check_ledger(path, Digest.of_bytes(b"other"), recorded) == "line 1 does not follow the one before"
    assert check_ledger(path, _RECIPE, recorded | {"lines": 4}) == "its 5 lines are not those that the record names"
    path.unlink()
    assert check_ledger(path, _RECIPE, recorded) == (
        f"cannot be read after line 0: [Errno 2] No such file or directory: '{path}'"
    )


_HOLDERS = {"a launcher": "held = hold(path)", "a training": "held = Ledger(path, Digest('0'))"}


@pytest.mark.parametrize("code", _HOLDERS.values(), ids=_HOLDERS.keys())
def test_alive_until_killed(tmp_path: Path, code: str) -> None:
    path = tmp_path / "ledger.jsonl"
    path.touch()
    assert not is_alive(path)
    script = f"""
import sys
from pathlib import Path
from samebits.digest import Digest
from samebits.ledger import Ledger, hold
path = Path(sys.argv[1])
{code}
print("held", flush=True)
input()
"""
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_alive(path)
        assert is_alive(path)  # asking changes nothing
        holder.kill()
        assert holder.wait() == -9
    assert not is_alive(path)


def test_launcher_and_training_hold_it_together(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, _RECIPE), open(hold(path), "rb"):
        assert is_alive(path)
    assert not is_alive(path)
    assert not is_alive(tmp_path / "absent")


_PROBES = 5000


def test_those_who_ask_do_not_see_each_other(tmp_path: Path) -> None:
    """Two that ask of a dead run at the same time: to ask locks nothing, so neither takes the other for the run."""
    path = tmp_path / "ledger.jsonl"
    path.touch()
    script = f"""
import sys
from pathlib import Path
from samebits.ledger import is_alive
path = Path(sys.argv[1])
print("ready", flush=True)
input()
print(sum(is_alive(path) for _ in range({_PROBES})))
"""
    command = [sys.executable, "-c", script, str(path)]
    probes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for probe in probes:
        assert probe.stdout is not None
        assert probe.stdout.readline() == b"ready\n"
    for probe in probes:  # both wait here, so that they ask at once
        assert probe.stdin is not None
        probe.stdin.write(b"\n")
        probe.stdin.flush()
    assert [probe.communicate()[0] for probe in probes] == [b"0\n", b"0\n"]


def test_asking_does_not_keep_anyone_from_holding(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.touch()
    for _ in range(100):
        with open(hold(path), "rb"):
            assert is_alive(path)
        assert not is_alive(path)


def test_a_run_of_somebody_else_is_alive(open_folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    path = open_folder / "ledger.jsonl"
    path.touch()
    with open(hold(path), "rb"), unprivileged():
        assert is_alive(path)


def test_a_ledger_that_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "ledger.jsonl"
    with pytest.raises(StorageError) as caught:
        Ledger(path, _RECIPE)
    assert str(caught.value) == f"cannot write {path}: No such file or directory; choose a folder that you may write to"


def test_a_full_disk(tmp_path: Path) -> None:
    code = """
from pathlib import Path
from samebits.digest import Digest
from samebits.errors import StorageError
from samebits.ledger import Ledger
with Ledger(Path("ledger"), Digest.of_bytes(b"")) as ledger:
    try:
        while ledger.lines < 100:
            ledger.append({"text": "x" * 4000})
    except StorageError as error:
        print(ledger.lines, error)
"""
    (line,) = on_small_disk(code, tmp_path)
    number, _, message = line.partition(" ")
    assert message == "the disk is full: cannot write ledger; free some space and run again"
    assert 0 < int(number) < 100
