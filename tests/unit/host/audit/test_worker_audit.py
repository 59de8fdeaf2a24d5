"""A run of several workers is resumed where all of them have a usable checkpoint."""

from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.checkpoint_store import Checkpoint, CheckpointStore, Position
from samebits.core.digest import Digest
from samebits.core.ledger import Ledger
from samebits.core.record import Record, read_record, write_record
from samebits.core.run_dir import RunDir
from samebits.host.audit.checkpoint_audit import CheckpointAudit, why_not_resumable
from samebits.host.audit.worker_audit import audit_workers, restrict
from samebits.host.rerun.resume import usable_workers
from samebits.host.run_folders import note_run

_DATA = Path(__file__).parents[3] / "data"
_AT = {number: Position(phase=0, epoch=number) for number in range(1, 5)}


@pytest.fixture
def record() -> Record:
    example = read_record(max(_DATA.glob("record-1.*.json")))
    return replace(example, recipe=replace(example.recipe, world_size=3), ledger=None, result=None)


def _write(ledger: Path, store: CheckpointStore, record: Record, epochs: range, content: bytes) -> None:
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with Ledger(ledger, record.recipe.digest) as lines:
        for epoch in range(1, epochs.stop):
            lines.append({"event": "epoch", "fit": 0, "epoch": epoch - 1, "of": content.decode()})
            if epoch in epochs:
                text = str(Digest.of_bytes(content))
                found = Checkpoint(
                    position=_AT[epoch],
                    recipe=record.recipe.digest,
                    lines=lines.lines,
                    last=lines.last,
                    state={},
                    objects=(text,),
                )
                store.write(found, {text: content})


@pytest.fixture
def run(tmp_path: Path, record: Record) -> RunDir:
    """The chief is one epoch ahead of worker 1, and worker 2 is one behind that."""
    run = RunDir(tmp_path / "run")
    _write(run.ledger, run.checkpoints, record, range(2, 5), b"chief")
    _write(run.of_worker(1).ledger, run.of_worker(1).checkpoints, record, range(1, 4), b"one")
    _write(run.of_worker(2).ledger, run.of_worker(2).checkpoints, record, range(1, 4), b"two")
    return run


def _common(run: RunDir, record: Record) -> CheckpointAudit:
    chief = CheckpointAudit.of(run, record)
    restrict(chief, audit_workers(run, record))
    return chief


def test_a_checkpoint_that_one_worker_lacks_is_not_used(run: RunDir, record: Record) -> None:
    chief, said = _common(run, record), list[str]()
    assert chief.furthest(said.append) == _AT[3]
    assert said == ["worker 1 has no usable checkpoint in phase 0 after 4 epochs; using an earlier checkpoint"]
    assert chief.furthest(said.append, before=_AT[3]) == _AT[2]


def test_a_damaged_object_of_a_worker_rules_its_checkpoints_out(run: RunDir, record: Record) -> None:
    (damaged,) = run.of_worker(2).checkpoints.objects.iterdir()
    damaged.unlink()
    assert _common(run, record).furthest(lambda _: None) is None


def test_an_edited_ledger_of_a_worker_rules_all_out(
    run: RunDir, record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = run.of_worker(1).ledger
    ledger.write_bytes(ledger.read_bytes().replace(b'"of":"one"', b'"of":"two"', 1))
    assert _common(run, record).furthest(lambda _: None) is None
    assert "nothing of worker 1 can be used" in capsys.readouterr().err
    assert audit_workers(run, record)[0].kept([_AT[2]]) is None


def test_a_worker_without_files_means_from_the_beginning(run: RunDir, record: Record) -> None:
    more = replace(record, recipe=replace(record.recipe, world_size=4))
    chief = CheckpointAudit.of(run, record)
    restrict(chief, audit_workers(run, more))
    assert chief.furthest(lambda _: None) is None


def test_a_resumed_run_gets_the_same_checkpoints_of_all(run: RunDir, record: Record, tmp_path: Path) -> None:
    target = CheckpointStore(tmp_path / "new" / "checkpoints")
    for worker in audit_workers(run, record):
        kept = worker.kept((_AT[2], _AT[3]))
        assert kept is not None
        kept.copy_into(target.of_worker(worker.index))
    for index in (1, 2):
        store = target.of_worker(index)
        assert store.positions() == [_AT[2], _AT[3]]
        assert store.ledger.read_bytes() == run.of_worker(index).ledger.read_bytes()


def test_a_folder_of_workers_that_is_a_link_is_not_followed(run: RunDir, record: Record, tmp_path: Path) -> None:
    workers = run.of_worker(1).store.folder.parent
    workers.rename(tmp_path / "elsewhere")
    workers.symlink_to(tmp_path / "elsewhere")
    assert _common(run, record).furthest(lambda _: None) is None


def test_workers_of_a_run_from_elsewhere_begin_at_the_start(
    run: RunDir,
    record: Record,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chief = CheckpointAudit.of(run, record)
    restrict(chief, usable_workers(run, record, trust=False))
    assert chief.furthest(lambda _: None) is None
    assert "was not begun here" in capsys.readouterr().err
    assert usable_workers(run, record, trust=True)[0].found is not None
    write_record(run.record, record)
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    note_run(run)
    chief = CheckpointAudit.of(run, record)
    restrict(chief, usable_workers(run, record, trust=False))
    assert chief.furthest(lambda _: None) == _AT[3]


def test_what_one_worker_cannot_capture_makes_the_run_not_resumable(run: RunDir, record: Record) -> None:
    run.image.mkdir()
    stopped = replace(record, outcome=replace(record.outcome, state="interrupted"), resumable=None)
    assert why_not_resumable(run, stopped) is None
    run.of_worker(2).checkpoints.refuse(["it holds a lock"])
    assert why_not_resumable(run, stopped) == "not exactly: it holds a lock (worker 2); train it again"
