"""Resuming, on the host's side: what is refused, what the new run gets, and that the old run is never changed.

A fake runner (`support.fake_runner`) stands in for the training.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core.checkpoint_store import Checkpoint, CheckpointStore, Position
from samebits.core.digest import Digest
from samebits.core.errors import RecordError
from samebits.core.jsonio import canonical_json
from samebits.core.ledger import Ledger, lock_alive
from samebits.core.liveness import Host
from samebits.core.origin import ResumedRun
from samebits.core.record import INTERRUPTED, Outcome, Record, Resumability, read_record, write_record
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import Resumption
from samebits.host.audit.checkpoint_audit import CheckpointAudit
from samebits.host.audit.ledger_audit import check_ledger
from samebits.host.interpreters import this_interpreter
from samebits.host.rerun.resume import plan_resumption
from samebits.host.runs.registry import checksum_of
from support.fake_runner import Played, played, spoil, unsealed
from support.records import resumed

__all__ = ["played"]


def _whole(played: Played, *options: str) -> str:
    """The result of the same training without an interruption."""
    result = played.train(*options).read().result_digest
    played.player.trained.clear()
    return str(result)


def _killed(played: Played, stage: int, epoch: int, *options: str) -> RunDir:
    played.player.dies = stage, epoch
    run = played.train(*options)
    played.player.dies = None
    played.player.trained.clear()
    return run


def _resumed(played: Played, run: RunDir, *options: str) -> RunDir:
    done = played.call("resume", run.path.name, *options)
    assert done.status == 0, done.err
    assert done.out.splitlines()[-1].startswith("result sha256:")
    return RunDir(done.run)


def _ends_well(run: RunDir, result: str) -> None:
    record = run.read()
    assert str(record.result_digest) == result
    assert not check_ledger(run.ledger, record).problems


@pytest.mark.parametrize("keep", ["last", "all", "every:2"])
def test_a_killed_run_ends_in_the_same_bits(played: Played, keep: str) -> None:
    played.player.stages = (2, 4)
    result = _whole(played, "--keep", keep)
    run = _killed(played, 1, 3, "--keep", keep)
    outcome = run.read().outcome
    message = "the training process was killed by SIGKILL: by the system because memory ran out, or by someone"
    assert (outcome.state, outcome.message) == ("interrupted", message)
    before = {path: path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file()}
    again = _resumed(played, run)
    _ends_well(again, result)
    assert played.player.trained == [(1, 2), (1, 3)]
    assert played.player.proven == ["0001-000003"]
    assert {path: path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file()} == before
    record = again.read()
    assert again.path.parent.samefile(run.path.parent)
    assert record.id == again.path.name != run.path.name
    assert record.recipe == run.read().recipe
    assert record.retention == run.read().retention
    assert record.origin.resumes == ResumedRun(
        id=run.path.name,
        checksum=checksum_of(run),
        checkpoint=Position.parse("0001-000002"),
        replays=Position.parse("0001-000003"),
    )
    names = {
        "last": ["0000-000002", "0001-000003", "0001-000004"],
        "all": ["0000-000001", "0000-000002", "0001-000001", "0001-000002", "0001-000003", "0001-000004"],
        "every:2": ["0000-000002", "0001-000002", "0001-000003", "0001-000004"],
    }
    assert [place.name for place in again.checkpoints.positions()] == names[keep]
    assert played.call("verify", again.path.name).out.splitlines()[-1] == "identical: 1 model"
    assert played.call("diff", run.path.name, again.path.name).status == 1


def _with_steps(run: RunDir, position: str, *steps: int) -> RunDir:
    """Checkpoints within an epoch, with what the one before the epoch holds."""
    found = run.checkpoints.read(Position.parse(position))
    for step in steps:
        run.checkpoints.write(replace(found, position=replace(found.position, step=step)), {})
    return run


def _start(run: RunDir, *, trust: bool = False) -> str:
    record = run.read()
    return str(plan_resumption(run, record, CheckpointAudit.of(run, record), trust=trust).run.checkpoint)


def test_within_an_epoch_of_a_run_that_was_not_begun_here(played: Played, tmp_path: Path) -> None:
    """Nothing but the run itself says what such a checkpoint must hold: it may lead from other weights to others."""
    run = _with_steps(_killed(played, 0, 2, "--keep", "all"), "0000-000002", 5, 6)
    own = "phase 0 after 2 epochs, 5 steps into the next"
    assert (_start(run), _start(run, trust=True)) == (own, own.replace("5", "6"))
    received = RunDir(tmp_path / run.path.name)
    shutil.copytree(run.path, received.path)
    played.output.readouterr()
    assert _start(received) == "phase 0 after 2 epochs"
    assert (
        "this run was not begun here, and its ledger does not confirm the checkpoint in phase 0 after 2 epochs, 5"
        in (played.output.readouterr().err)
    )
    assert _start(received, trust=True) == own.replace("5", "6")
    # In the same place, another folder.
    run.path.rename(tmp_path / "aside")
    received.path.rename(run.path)
    assert _start(run) == "phase 0 after 2 epochs"


def test_a_checkpoint_within_an_epoch_whose_end_is_in_the_ledger(played: Played, tmp_path: Path) -> None:
    """Whatever it holds, it must lead to that line."""
    run = _with_steps(_killed(played, 0, 2, "--keep", "all"), "0000-000001", 5, 6)
    received = RunDir(tmp_path / run.path.name)
    shutil.copytree(run.path, received.path)
    assert _start(received) == "phase 0 after 1 epoch, 6 steps into the next"


@pytest.mark.parametrize(
    ("digest", "step", "start"),
    [
        ("sha256:0", 4, ", 5 steps into the next"),
        ("sha256:0", 3, ""),
        ("xxh3-128:0", 4, ""),
    ],
)
def test_a_traced_step_confirms_its_checkpoint(
    played: Played, tmp_path: Path, digest: str, step: int, start: str
) -> None:
    """A fast digest does not: it resists nobody."""
    run = _killed(played, 0, 2, "--keep", "all")
    with Ledger(run.ledger, run.read().recipe.digest) as ledger:
        found = run.checkpoints.read(Position.parse("0000-000002"))
        ledger.resume_at(found.lines, found.last)
        ledger.append({"event": "step", "fit": 0, "epoch": 2, "step": step, "tensors": {"trainable": digest}})
        for number in (5, 6):
            position = replace(found.position, step=number)
            run.checkpoints.write(replace(found, position=position, lines=ledger.lines, last=ledger.last), {})
    run = unsealed(run)
    received = RunDir(tmp_path / run.path.name)
    shutil.copytree(run.path, received.path)
    assert _start(received) == f"phase 0 after 2 epochs{start}"


def test_a_run_that_nobody_sealed_is_sealed_first(played: Played) -> None:
    result = _whole(played)
    run = unsealed(_killed(played, 0, 2))
    again = _resumed(played, run)
    _ends_well(again, result)
    record = read_record(run.record)
    assert record.outcome.state == "interrupted"
    assert record.outcome.message == "the run ended without finalizing its record (killed, or power was lost)"
    assert not run.reserve.exists()
    assert resumed(again.read()).checksum == checksum_of(run) == json.loads(run.record.read_bytes())["seal"]


def test_killed_again_and_again(played: Played) -> None:
    result = _whole(played)
    run = _killed(played, 0, 1)
    for epoch in (2, 3):
        played.player.dies = 0, epoch
        done = played.call("resume", run.path.name)
        assert done.status == 2
        assert resumed(RunDir(done.run).read()).id == run.path.name
        run = unsealed(RunDir(done.run))
    played.player.dies = None
    _ends_well(_resumed(played, run), result)


def _never_began(run: RunDir) -> RunDir:
    """As a run that was killed before it copied what its image was built from."""
    shutil.rmtree(run.image)
    return unsealed(run)


def test_killed_before_the_resumed_training_began(played: Played) -> None:
    result = _whole(played)
    run = _killed(played, 0, 2)
    played.player.dies = 0, 2
    last = run
    for _ in range(2):
        last = _never_began(RunDir(played.call("resume", last.path.name).run))
    played.player.dies = None
    again = _resumed(played, last)
    _ends_well(again, result)
    assert resumed(again.read()).id == run.path.name


def test_killed_before_its_training_began(played: Played) -> None:
    run = _never_began(_killed(played, 0, 2))
    done = played.call("resume", run.path.name)
    assert (done.status, done.err.count("it ended before its training began; train it again")) == (2, 1)


def test_another_run_than_the_one_that_was_resumed_is_not_taken(played: Played) -> None:
    run = _killed(played, 0, 2)
    played.player.dies = 0, 2
    last = _never_began(RunDir(played.call("resume", run.path.name).run))
    record = read_record(run.record)
    run.record.unlink()
    write_record(run.record, replace(record, started=f"{record.started}0"))
    assert "it ended before its training began" in played.call("resume", last.path.name).err


def test_a_script_that_failed_fails_no_more(played: Played) -> None:
    result = _whole(played)
    played.player.fails = 0, 2
    run = played.train()
    assert run.read().outcome.exit_status == 1
    refused = played.call("resume", run.path.name)
    assert (refused.status, played.runs()) == (2, 2)
    assert refused.complaint == (
        f"the run {run.path.name} cannot be resumed: no; resuming runs the same code again: correct the script and"
        " train, or, if the cause was outside of it, use --retry-failed"
    )
    assert re.search(
        r"^resumable +no: no; resuming runs the same", played.call("show", run.path.name).out, re.MULTILINE
    )
    assert played.call("resume", run.path.name, "--retry-failed").status == 1
    played.player.fails = None
    _ends_well(_resumed(played, run, "--retry-failed"), result)


def test_what_is_not_reproduced_ends_the_run(played: Played) -> None:
    """The ledger agrees, the state does not: nothing after the checkpoint is trained, and the old run stays."""
    result = _whole(played)
    run = _killed(played, 0, 3)
    played.player.state = {"more": 1}
    done = played.call("resume", run.path.name)
    assert (done.status, done.err.splitlines()[-1]) == (2, "samebits: did not reproduce phase 0 after 3 epochs")
    assert played.player.trained == [(0, 2)]
    played.player.state = {}
    _ends_well(_resumed(played, run), result)


def test_the_first_checkpoint_is_reproduced_from_the_beginning(played: Played) -> None:
    result = _whole(played)
    run = _killed(played, 0, 1)
    done = played.call("resume", run.path.name)
    line = "from the beginning; it must reproduce phase 0 after 1 epoch before it continues"
    assert done.err.splitlines()[0] == f"samebits: resuming {run.path.name} {line}"
    assert played.player.trained == [(0, epoch) for epoch in range(4)]
    assert played.player.proven == ["0000-000001"]
    _ends_well(RunDir(done.run), result)


def test_the_last_but_one_belongs_to_an_earlier_phase(played: Played) -> None:
    played.player.stages = (2, 3)
    result = _whole(played)
    run = _killed(played, 1, 1)
    again = _resumed(played, run)
    assert resumed(again.read()).to_dict()["checkpoint"] == "0000-000002"
    assert played.player.proven == ["0001-000001"]
    _ends_well(again, result)


def test_a_checkpoint_that_is_trusted(played: Played) -> None:
    """The run begins at the last one, and record and `show` say so."""
    result = _whole(played)
    run = _killed(played, 0, 3)
    done = played.call("resume", run.path.name, "--trust-checkpoint")
    assert "from phase 0 after 3 epochs, without a proof (--trust-checkpoint)" in done.err.splitlines()[0]
    assert (played.player.trained, played.player.proven) == ([(0, 3)], [])
    again = RunDir(done.run)
    _ends_well(again, result)
    found = resumed(again.read())
    assert (found.trusted, found.replays, found.reproduced) == (True, None, False)
    shown = played.call("show", again.path.name).out
    assert re.search(r"^replay +skipped \(--trust-checkpoint\)$", shown, re.MULTILINE)


def test_a_line_that_was_torn_is_left_out(played: Played) -> None:
    result = _whole(played)
    run = unsealed(_killed(played, 0, 3))
    whole = run.ledger.read_bytes()
    run.ledger.write_bytes(whole + b'{"event":"epo')
    done = played.call("resume", run.path.name)
    again = RunDir(done.run)
    assert again.ledger.read_bytes().startswith(whole)
    _ends_well(again, result)


def test_lines_behind_the_checkpoint_are_kept_to_be_compared(played: Played) -> None:
    """The furthest checkpoint is lost, and its epoch must be repeated exactly, or the run fails."""
    result = _whole(played)
    run = _killed(played, 0, 3, "--keep", "all")
    lines = run.ledger.read_bytes()
    run.checkpoints.path(Position(phase=0, epoch=3)).unlink()
    again = _resumed(played, run)
    assert again.ledger.read_bytes().startswith(lines)
    assert played.player.trained[0] == (0, 1)
    _ends_well(again, result)
    played.player.noise[0, 2] = b"other"
    done = played.call("resume", run.path.name)
    assert done.status == 2
    assert "did not reproduce line 3 of the ledger (fit 0, epoch 2)" in done.err


def test_without_a_checkpoint_it_begins_again(played: Played) -> None:
    result = _whole(played)
    run = _killed(played, 0, 0)
    done = played.call("resume", run.path.name)
    assert f"samebits: resuming {run.path.name} from the beginning: it has no checkpoint" in done.err.splitlines()
    assert resumed(RunDir(done.run).read()).checkpoint is None
    assert len(played.player.trained) == 4
    _ends_well(RunDir(done.run), result)


def _object(run: RunDir, place: Position) -> Path:
    (text,) = run.checkpoints.read(place).objects
    return run.checkpoints.objects / Digest.parse(text).hex


def _damaged_object(run: RunDir) -> None:
    path = _object(run, _THIRD)
    content = path.read_bytes()
    spoil(path, content, bytes([content[0] ^ 1]) + content[1:])


def _written(run: RunDir, **changes: Any) -> None:
    """The third checkpoint with a valid checksum."""
    found = replace(run.checkpoints.read(_THIRD), **changes)
    run.checkpoints.path(_THIRD).unlink()
    run.checkpoints.path(_THIRD).write_bytes(canonical_json(found.to_dict()))


def _renamed(run: RunDir) -> None:
    run.checkpoints.path(Position(phase=0, epoch=2)).rename(run.checkpoints.path(Position(phase=0, epoch=9)))


_THIRD = Position(phase=0, epoch=3)
_OTHER = Digest.of_bytes(b"other")


@pytest.mark.parametrize(
    ("damage", "complaint", "checkpoint"),
    [
        (_damaged_object, "objects/{hex} does not match the digest in its name: it was changed after", "0000-000001"),
        (lambda run: _object(run, _THIRD).unlink(), "cannot read {store}/objects/{hex}: No such file", "0000-000001"),
        (
            lambda run: spoil(run.checkpoints.path(_THIRD), b'"lines":3', b'"lines":2'),
            "0000-000003.json: the checksum does not match: the checkpoint was changed after it was written",
            "0000-000001",
        ),
        (
            lambda run: spoil(run.checkpoints.path(_THIRD), b"}", b""),
            "0000-000003.json is not JSON: ",
            "0000-000001",
        ),
        (_renamed, "0000-000009.json holds the checkpoint 0000-000002: it was renamed", "0000-000001"),
        (
            lambda run: _written(run, recipe=_OTHER),
            f"0000-000003.json is of another recipe, {_OTHER.short}",
            "0000-000001",
        ),
        (
            lambda run: _written(run, lines=7),
            "0000-000003.json refers to line 7 of a ledger with 3 lines",
            "0000-000001",
        ),
        (
            lambda run: _written(run, last=_OTHER),
            "0000-000003.json refers to another line 3 than the ledger has",
            "0000-000001",
        ),
    ],
    ids=["object", "no object", "seal", "no JSON", "renamed", "recipe", "too far", "another line"],
)  # fmt: skip
def test_a_checkpoint_that_cannot_be_relied_on(
    played: Played, damage: Callable[[RunDir], object], complaint: str, checkpoint: str
) -> None:
    """It is reported, and costs time, never exactness."""
    result = _whole(played, "--keep", "all")
    run = _killed(played, 0, 3, "--keep", "all")
    name = _object(run, _THIRD).name
    damage(run)
    done = played.call("resume", run.path.name)
    assert done.status == 0, done.err
    reported = [line for line in done.err.splitlines() if line.endswith("; using an earlier checkpoint")]
    assert len(reported) == 1, done.err
    assert complaint.format(hex=name, store=Path("runs", run.path.name, "checkpoints")) in reported[0]
    again = RunDir(done.run)
    assert resumed(again.read()).to_dict()["checkpoint"] == checkpoint
    _ends_well(again, result)
    for place in again.checkpoints.positions():
        for text in again.checkpoints.read(place).objects:
            again.checkpoints.content(Digest.parse(text))


def test_an_earlier_stage_that_is_damaged_takes_the_later_ones_with_it(played: Played) -> None:
    played.player.stages = (2, 3)
    result = _whole(played, "--keep", "all")
    run = _killed(played, 1, 2, "--keep", "all")
    run.checkpoints.path(Position(phase=0, epoch=2)).write_text("{}")
    done = played.call("resume", run.path.name)
    assert done.err.count("using an earlier checkpoint") == 1
    again = RunDir(done.run)
    assert resumed(again.read()).checkpoint is None
    assert played.player.proven == ["0000-000001"]
    _ends_well(again, result)


_GENERATOR = "a generator was given to fit; give a tf.data.Dataset"


def _refused_in_its_record(played: Played) -> RunDir:
    played.player.refuses = (_GENERATOR,)
    played.player.fails = 0, 2
    run = played.train()
    (run.checkpoints.refusal).unlink()
    record = run.read()
    run.record.unlink()
    write_record(run.record, replace(record, outcome=Outcome(state=INTERRUPTED)))
    return run


def _refused_before_it_died(played: Played) -> RunDir:
    played.player.refuses = (_GENERATOR,)
    return unsealed(_killed(played, 0, 2))


def _spoilt_ledger(played: Played) -> RunDir:
    run = unsealed(_killed(played, 0, 3))
    run.ledger.write_bytes(run.ledger.read_bytes().replace(b'"epoch":1', b'"epoch":7'))
    return run


def _other_data(played: Played) -> RunDir:
    run = _killed(played, 0, 3)
    (played.project.data / "numbers.csv").write_text("1,2\n")
    return run


def _other_code(played: Played) -> RunDir:
    run = _killed(played, 0, 3)
    (run.code / "train.py").write_text("pass\n")
    return run


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda played: played.train(), "the run {id} cannot be resumed: it has finished; nothing to resume"),
        (
            lambda played: _killed(played, 0, 2, "--keep", "none"),
            "the run {id} cannot be resumed: it keeps no checkpoints (keep none); train it again",
        ),
        (
            _refused_in_its_record,
            f"the run {{id}} cannot be resumed: not exactly: {_GENERATOR}; train it again",
        ),
        (
            _refused_before_it_died,
            f"the run {{id}} cannot be resumed: not exactly: {_GENERATOR}; train it again",
        ),
        (
            _spoilt_ledger,
            "runs/{id}/ledger.jsonl: lines 2 to 3: at least one was changed; it cannot be resumed, train again",
        ),
        (_other_data, "cannot resume exactly here: data: not what was recorded: numbers.csv"),
        (_other_code, "cannot resume exactly here: code: not what was recorded: train.py"),
    ],
    ids=["finished", "keep none", "refused", "refused and killed", "ledger", "data", "code"],
)
def test_what_cannot_be_resumed(played: Played, make: Callable[[Played], RunDir], complaint: str) -> None:
    run = make(played)
    before = run.record.read_bytes()
    done = played.call("resume", run.path.name)
    assert (done.status, done.out) == (2, "")
    assert done.complaint == complaint.format(id=run.path.name)
    assert played.runs() == 1
    assert run.record.read_bytes() == before


def test_a_run_that_is_alive_is_left_alone(played: Played) -> None:
    run = unsealed(_killed(played, 0, 2))
    held = lock_alive(run.ledger)
    try:
        done = played.call("resume", run.path.name)
    finally:
        os.close(held)
    assert done.status == 2
    assert "cannot be resumed: it is still running; stop it, or wait until it ends" in done.complaint
    assert not read_record(run.record).finalized


def test_another_recipe_is_named(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    run = _killed(played, 0, 2)
    other = replace(this_interpreter(), version="3.9.9")
    monkeypatch.setattr("samebits.host.launch.runtime.recorded_interpreter", lambda _: other)
    done = played.call("resume", run.path.name)
    assert done.status == 2
    assert done.complaint.endswith("; recipe: another recipe: image.python")


def test_data_that_was_moved_and_runs_kept_elsewhere(played: Played) -> None:
    result = _whole(played)
    run = _killed(played, 0, 2)
    played.project.data.rename(played.project.folder / "elsewhere")
    done = played.call("resume", str(run.path), "--data", "elsewhere", "--runs", "more", "--json")
    written = json.loads(done.out.splitlines()[-1])
    assert (written["outcome"], written["result"]) == ("finished", result)
    assert Path(written["run"]).parent == Path("more")


def test_what_show_and_list_say(played: Played) -> None:
    run = _killed(played, 0, 2)
    shown = played.call("show", run.path.name).out
    assert re.search(rf"^resumable +yes: samebits resume {run.path.name}$", shown, re.MULTILINE)
    assert re.search(r"^checkpoints +2 \(keep last\)$", shown, re.MULTILINE)
    assert "resumes" not in shown
    where = re.search(r"^  begins at +(phase 0 after 1 epoch; it must reproduce .*)$", shown, re.MULTILINE)
    assert where is not None
    elsewhere = played.call("show", str(run.path.absolute())).out
    assert re.search(rf"^resumable +yes: samebits resume {run.path.absolute()}$", elsewhere, re.MULTILINE)
    done = played.call("resume", run.path.name)
    assert f"resuming {run.path.name} from {where[1]}" in done.err
    again = RunDir(Path(done.run))
    shown = played.call("show", again.path.name).out
    assert re.search(rf"^resumes +{run.path.name} from phase 0 after 1 epoch$", shown, re.MULTILINE)
    assert re.search(r"^replay +phase 0 after 2 epochs: not reproduced$", shown, re.MULTILINE), "by the fake runner"
    assert re.search(r"^resumable +no: it finished$", shown, re.MULTILINE)
    listed = json.loads(played.call("list", "--json").out)
    assert [row["resumes"] for row in listed] == [None, run.path.name]
    played.player.refuses = ("workers share a generator",)
    shown = played.call("show", played.train().path.name).out
    assert re.search(r"^resumable +no: it finished; it was not resumable: workers share a ", shown, re.MULTILINE)
    shown = played.call("show", played.train("--keep", "none").path.name).out
    assert "resumable" not in shown


def test_a_ledger_that_became_shorter_meanwhile(tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    (tmp_path / "old").write_bytes(b"abc")
    store = CheckpointStore(tmp_path / "none")
    resumption = Resumption(run=ResumedRun(id="a", checksum="b"), ledger=tmp_path / "old", size=4, store=store)
    for size, content in ((2, b"ab"), (3, b"abc")):
        replace(resumption, size=size).copy_into(folder)
        assert folder.ledger.read_bytes() == content
    with pytest.raises(
        RecordError, match=r"old became shorter while it was copied; stop what else writes to it, and resume again$"
    ):
        resumption.copy_into(folder)


def test_a_record_that_says_nothing_sensible_of_being_resumable(played: Played) -> None:
    from samebits.host.audit.checkpoint_audit import refusals

    run = played.train()
    record = replace(run.read(), resumable=Resumability(resumable=False))
    assert refusals(run, record) == ("no reason was recorded",)
    for wrong in ({}, {"resumable": 1}, {"resumable": False, "reasons": [1]}):
        with pytest.raises(RecordError, match=r"^(missing value in )?'resumable\."):
            Record.from_dict(record.to_dict() | {"resumable": wrong}, check_checksum=False)
    assert isinstance(run.checkpoints.read(run.checkpoints.positions()[-1]), Checkpoint)


def elsewhere(run: RunDir) -> RunDir:
    """The unfinished run as another machine recorded it."""
    record = read_record(run.record)
    host = Host.this()
    assert host is not None
    host = replace(host, machine="sha256:other", launcher=replace(host.launcher, boot="other"))
    write_record(run.record, replace(record, host=host))
    return run


def test_a_run_on_another_machine_is_not_ended_by_this_one(played: Played) -> None:
    result = _whole(played)
    run = elsewhere(unsealed(_killed(played, 0, 2)))
    before = run.record.read_bytes()
    done = played.call("resume", run.path.name)
    assert done.status == 2
    assert "it was started on another machine" in done.complaint
    assert "--ended" in done.complaint
    for command in ("show", "list", "audit", "preflight"):
        played.call(command, *([run.path.name] if command != "list" else []))
        assert run.record.read_bytes() == before
    _ends_well(_resumed(played, run, "--ended"), result)
    assert "declared ended" in str(read_record(run.record).outcome.message)


def test_what_a_stranger_put_into_staging_is_not_taken_over(played: Played) -> None:
    """The record names no machine, or another one; only the user can say that the run is his own."""
    run = unsealed(_killed(played, 0, 2))
    (run.staging / "outputs").mkdir(parents=True)
    done = played.call("resume", run.path.name)
    assert done.status == 2
    assert "it was not started on this machine" in done.complaint
    assert (run.staging / "outputs").is_dir()
    _resumed(played, run, "--ended")
    assert not run.staging.exists()


def test_a_run_that_went_on_is_named(played: Played) -> None:
    run = elsewhere(unsealed(_killed(played, 0, 2)))
    going = read_record(run.record)
    _resumed(played, run, "--ended")
    ended = replace(going, outcome=Outcome(state="finished"))
    assert run.finalize_or_beside(ended, {}).name == "record.late.json"
    assert "record.late.json: finished" in played.call("show", run.path.name).out
    assert "interrupted, late record" in played.call("list").out
    assert played.call("audit", run.path.name).status == 0
    (run.path / "files.late.jsonl").chmod(0o644)
    (run.path / "files.late.jsonl").write_text("")
    assert "files.late.jsonl" in played.call("audit", run.path.name).out
