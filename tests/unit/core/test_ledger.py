"""The ledger's chain, how a resumed run continues it, and the lock that tells a live run from a dead one."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError, StorageError
from samebits.core.ledger import Ledger, is_alive, last_steps, line_place, lock_alive
from support.machine import on_small_disk, unprivileged

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
    for number, (line, values) in enumerate(zip(lines, _EPOCHS, strict=True), 1):
        assert json.loads(line) == {**values, "version": "1.2", "line": number, "previous": previous}
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


_HOLDERS = {"a launcher": "held = lock_alive(path)", "a training": "held = Ledger(path, Digest('0'))"}


@pytest.mark.parametrize("code", _HOLDERS.values(), ids=_HOLDERS.keys())
def test_alive_until_killed(tmp_path: Path, code: str) -> None:
    path = tmp_path / "ledger.jsonl"
    path.touch()
    assert not is_alive(path)
    script = f"""
import sys
from pathlib import Path
from samebits.core.digest import Digest
from samebits.core.ledger import Ledger, lock_alive
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
        assert is_alive(path)  # checking changes nothing
        holder.kill()
        assert holder.wait() == -9
    assert not is_alive(path)


def test_launcher_and_training_hold_it_together(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, _RECIPE), open(lock_alive(path), "rb"):
        assert is_alive(path)
    assert not is_alive(path)
    assert not is_alive(tmp_path / "absent")


_PROBES = 5000


def test_concurrent_checks_do_not_see_each_other(tmp_path: Path) -> None:
    """Two processes check a dead run at once. They take no lock, so neither mistakes the other for the run."""
    path = tmp_path / "ledger.jsonl"
    path.touch()
    script = f"""
import sys
from pathlib import Path
from samebits.core.ledger import is_alive
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
    for probe in probes:  # both wait here, so that they check at the same time
        assert probe.stdin is not None
        probe.stdin.write(b"\n")
        probe.stdin.flush()
    assert [probe.communicate()[0] for probe in probes] == [b"0\n", b"0\n"]


def test_a_check_does_not_block_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.touch()
    for _ in range(100):
        with open(lock_alive(path), "rb"):
            assert is_alive(path)
        assert not is_alive(path)


def test_a_run_of_another_user_is_alive(open_folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    path = open_folder / "ledger.jsonl"
    path.touch()
    with open(lock_alive(path), "rb"), unprivileged():
        assert is_alive(path)


def test_a_ledger_that_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "ledger.jsonl"
    with pytest.raises(StorageError) as caught:
        Ledger(path, _RECIPE)
    assert str(caught.value) == f"cannot write {path}: No such file or directory; choose a folder that you may write to"


def test_a_full_disk_has_complete_lines_only(tmp_path: Path) -> None:
    """A partly written line is removed; a shorter line that fits can follow."""
    code = """
from pathlib import Path
from samebits.core.digest import Digest
from samebits.core.errors import StorageError
from samebits.core.ledger import Ledger
path = Path("ledger")
with Ledger(path, Digest.of_bytes(b"")) as ledger:
    for size in (7000, 7000, 700):
        try:
            while ledger.lines < 1000:
                ledger.append({"text": "x" * size})
        except StorageError as error:
            print(ledger.lines, error)
        content = path.read_bytes()
        assert content.endswith(b"}\\n"), content[-99:]
        assert content.count(b"\\n") == ledger.lines
        assert Digest.of_bytes(content.splitlines()[-1]) == ledger.last
"""
    lines = on_small_disk(code, tmp_path)
    counts = [int(line.partition(" ")[0]) for line in lines]
    assert {line.partition(" ")[2] for line in lines} == {
        "the disk is full: cannot write ledger; free some space and run again"
    }
    assert 0 < counts[0] == counts[1] < counts[2] < 1000


def test_an_interrupted_line_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, _RECIPE) as ledger:
        ledger.append({"epoch": 0})
        whole = ledger._file

        class Interrupted:
            def write(self, content: bytes) -> int:
                whole.write(content[:30])
                raise KeyboardInterrupt

            def __getattr__(self, name: str) -> Any:
                return getattr(whole, name)

        ledger._file = Interrupted()  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            ledger.append({"epoch": 1})
        ledger._file = whole
        ledger.append({"epoch": 2})
        lines = path.read_bytes().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == [0, 2]
        assert json.loads(lines[1])["previous"] == str(Digest.of_bytes(lines[0]))
        assert (ledger.lines, ledger.last) == (2, Digest.of_bytes(lines[1]))


def test_a_disk_error_is_reported_before_finalizing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Ledger(tmp_path / "ledger", _RECIPE) as ledger:
        monkeypatch.setattr(os, "fdatasync", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            ledger.sync()


def _appended(path: Path, lines: int, last: Digest, *values: Mapping[str, object]) -> Ledger:
    with Ledger(path, _RECIPE) as ledger:
        ledger.resume_at(lines, last)
        for one in values:
            ledger.append(one)
        return ledger


def test_a_resumed_run_reproduces_its_lines_or_fails(tmp_path: Path) -> None:
    """Existing lines are compared, further lines appended; the bytes equal those of an uninterrupted run."""
    path = tmp_path / "ledger.jsonl"
    _write(path)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    digests = [_RECIPE, *(Digest.of_bytes(line[:-1]) for line in lines)]
    for kept in range(len(lines) + 1):
        for begin in range(kept + 1):
            path.write_bytes(b"".join(lines[:kept]))
            ledger = _appended(path, begin, digests[begin], *_EPOCHS[begin:])
            assert (path.read_bytes(), ledger.lines, ledger.last) == (whole, len(lines), digests[-1])
    path.write_bytes(whole)
    with pytest.raises(InputError) as caught:
        _appended(path, 2, digests[2], {**_EPOCHS[2], "loss": "other"})
    assert str(caught.value) == (
        "the resumed training did not reproduce line 3 of the ledger (epoch 2): loss differs; nothing"
        " after it was trained; see `samebits check --resume`, or train again"
    )
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("recorded", "again", "name"),
    [
        ({"epoch": 1, "metrics": {"loss": "a", "val_loss": "b"}}, {"epoch": 1, "metrics": {"loss": "a"}}, "val_loss"),
        ({"epoch": 1, "tensors": {"optimizer": "a"}}, {"epoch": 1, "tensors": {"optimizer": "b"}}, "tensors.optimizer"),
        ({"epoch": 1, "metrics": {}}, {"epoch": 1}, "metrics"),
    ],
)
def test_the_first_value_that_is_not_reproduced(
    tmp_path: Path, recorded: dict[str, object], again: dict[str, object], name: str
) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, _RECIPE) as ledger:
        ledger.append(recorded)
    with Ledger(path, _RECIPE) as ledger, pytest.raises(InputError, match=rf": {name} differs; nothing after it "):
        ledger.append(again)


@pytest.mark.parametrize(("lines", "last"), [(6, _RECIPE), (2, _RECIPE), (5, Digest.of_bytes(b"other"))])
def test_resuming_at_a_line_that_differs(tmp_path: Path, lines: int, last: Digest) -> None:
    path = tmp_path / "ledger.jsonl"
    _write(path)
    with pytest.raises(RecordError, match=rf"was changed: line {lines} is not the one that the checkpoint refers to$"):
        _appended(path, lines, last)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"event": "epoch", "fit": 1, "epoch": 2}, "fit 1, epoch 2"),
        ({"event": "step", "loop": 0, "step": 3}, "loop 0, step 3"),
        ({"event": "round", "stage": 0, "round": 4}, "phase 0, round 4"),
        ({"event": "end"}, "end"),
    ],
)
def test_where_a_line_was_written(values: Mapping[str, object], place: str) -> None:
    assert line_place(values) == place


@pytest.mark.parametrize("damaged", [b"{", b"7", b"[" * 100_000, b"\xff"])
def test_the_last_steps(damaged: bytes) -> None:
    lines = [
        *({"event": "step", "fit": 0, "step": 7}, {"event": "epoch", "fit": 0}, {"event": "step", "fit": 0, "step": 1}),
        *(
            {"event": "step", "loop": 0, "step": 2},
            {"event": "end", "fit": 0},
            {"event": "step", "fit": 0, "step": 3},
        ),
    ]
    written = [json.dumps(line).encode() for line in lines]
    assert [line["step"] for line in last_steps([damaged, *reversed(written)])] == [3, 1]
