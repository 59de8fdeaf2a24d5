"""The exchange of digests between two parties: what each answer holds, and which answers are refused."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core.digest import Digest, with_checksum
from samebits.core.errors import InputError, RecordError
from samebits.core.ledger import Ledger
from samebits.core.origin import ResumedRun
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import Resumption
from samebits.core.trace_level import TENSOR, Trace
from samebits.host.rerun import challenge_file, challenge_party
from samebits.host.rerun.challenge import Exchange, exchange
from samebits.host.rerun.challenge_file import Challenge, PlacedDigest, read_challenge, write_challenge
from samebits.host.rerun.challenge_party import Party
from samebits.host.rerun.divergence import RunWithRecord, Side

Line = dict[str, Any]


def _digest(text: str) -> str:
    return str(Digest.of_bytes(text.encode()))


def _epoch(number: int, weights: str = "same", fit: int = 0) -> Line:
    metrics = {"loss": "0x1.0p+0"}
    return {"event": "epoch", "fit": fit, "epoch": number, "metrics": metrics, "tensors": {"trainable": weights}}


def _step(number: int, weights: str = "same", epoch: int = 1) -> Line:
    variable = {"path": "m/a/kernel", "dtype": "float32", "shape": [2], "digest": _digest(weights)}
    place = {"event": "step", "fit": 0, "epoch": epoch, "step": number}
    return {**place, "tensors": {"trainable": _digest(weights)}, "variables": [variable]}


class Parties:
    """Two parties with prepared ledgers and steps; records what each of them trains."""

    def __init__(self, folder: Path, record: Record) -> None:
        self.folder = folder
        self.record = record
        self.asked: list[tuple[str, Trace, bool]] = []
        self.epochs = {
            "one": [_epoch(0), _epoch(1), _epoch(2), {"event": "end", "models": ["one"]}],
            "other": [_epoch(0), _epoch(1, "other"), _epoch(2, "other"), {"event": "end", "models": ["other"]}],
        }
        self.steps = {
            "one": [_step(0), _step(1), _step(2)],
            "other": [_step(0), _step(1, "other"), _step(2, "third")],
        }
        # What a training makes in place of the recorded epochs, by party and whether it begins at a checkpoint.
        self.again: dict[tuple[str, bool], list[Line]] = {}

    def ran(self, lines: list[Line], trace: Trace) -> RunWithRecord:
        run = RunDir(self.folder / f"run-{len(list(self.folder.glob('run-*')))}")
        run.path.mkdir()
        with Ledger(run.ledger, self.record.recipe.digest) as ledger:
            for line in lines:
                ledger.append(line)
        return run, replace(self.record, trace=trace)

    def party(self, name: str) -> Party:
        epochs, steps = self.epochs[name], self.steps[name]
        own = Challenge(
            run=name,
            record=Digest.of_bytes(name.encode()),
            recipe=self.record.recipe.digest,
            result=Digest.of_json(epochs),
            ledger=tuple(PlacedDigest.of_line(line) for line in epochs),
        )

        def train(trace: Trace, _runs: Path, start: Resumption | None) -> RunWithRecord:
            self.asked.append((name, trace, start is not None))
            lines = self.again.get((name, start is not None), epochs)
            number = next(number for number, line in enumerate(lines) if line.get("epoch") == trace.epoch)
            wanted = [line for line in steps if trace.step in {None, line["step"]}]
            end = [lines[number]] if trace.step is None else []
            return self.ran([*lines[:number], *wanted, *end], trace)

        side = Side(run=self.ran(epochs, Trace()), train=train)
        return Party(challenge=own, numbers=tuple(range(1, len(epochs) + 1)), side=lambda: side)

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def call(self, name: str, against: str | None = None) -> Exchange:
        return exchange(self.party(name), self.file(name), None if against is None else self.file(against))

    def until(self, calls: int) -> Exchange:
        """The commands of both parties in turns, the first of them without an answer."""
        found = self.call("one")
        for number in range(1, calls):
            found = self.call(*(("other", "one") if number % 2 else ("one", "other")))
        return found

    def edit(self, name: str, change: Callable[[Any], object]) -> None:
        """Change a party's file, with a checksum that is right again."""
        values = json.loads(self.file(name).read_text())
        change(values)
        values.pop("seal")
        self.file(name).write_text(json.dumps(with_checksum(values)))


@pytest.fixture
def parties(tmp_path: Path, example: Record) -> Parties:
    return Parties(tmp_path, example)


def _lines(found: Exchange) -> list[str]:
    assert found.location is not None
    return found.location.lines()


def test_each_exchange_is_finer(parties: Parties) -> None:
    window = Trace(level=TENSOR, fit=0, epoch=1)
    found = parties.until(1)
    assert (found.verdict, found.location, found.exit_status, parties.asked) == (None, None, 0, [])
    found = parties.call("other", "one")
    assert _lines(found) == [f"diverges at fit 0, epoch 1: send {parties.file('other')}, to find the step"]
    assert (found.verdict, found.exit_status, found.final) == ("different", 1, False)
    found = parties.call("one", "other")
    assert _lines(found) == [f"diverges at fit 0, epoch 1, step 1: send {parties.file('one')}, to find the tensor"]
    # Both know the same, the one who answered last after one more file.
    for call in (("other", "one"), ("one", "other")):
        found = parties.call(*call)
        assert _lines(found) == ["diverges first at fit 0, epoch 1, step 1: variable m/a/kernel (layer m/a)"]
        assert found.final
    # Each trained the epoch once, and one of them the step.
    assert parties.asked == [
        ("other", window, False),
        ("one", window, False),
        ("other", replace(window, step=1), False),
    ]


def test_the_files_hold_digests_alone(parties: Parties) -> None:
    parties.until(5)
    for name in ("one", "other"):
        text = parties.file(name).read_text()
        assert "loss" not in text
        assert "0x1" not in text
        assert str(parties.folder) not in text


def test_an_exchange_begins_again_without_harm(parties: Parties) -> None:
    """Without an answer, the file is written as it was; who asks again gets the same."""
    parties.until(3)
    before = parties.file("one").read_bytes()
    parties.call("one")
    assert parties.file("one").read_bytes() == before
    first, again = (_lines(parties.call("other", "one")) for _ in range(2))
    assert first == again


REFUSED: dict[str, tuple[int, Callable[[Any], object], str]] = {
    "another recipe": (1, lambda v: v.update(recipe=_digest("x")), "it is of another recipe, "),
    "the same run": (1, lambda v: v.update(record=_digest("other")), "it is of the same run; "),
    "another run than before": (3, lambda v: v.update(record=_digest("x")), "it is of the run one, and an earlier one"),
    "a line of another epoch": (
        3,
        lambda v: v["ledger"][2].update(digest=_digest("x")),
        "its ledger is not the one that it gave before",
    ),
    "the epoch's own line": (
        3,
        lambda v: v["ledger"][1].update(digest=_digest("x")),
        "its ledger is not the one that it gave before",
    ),
    "a step after it was given": (
        5,
        lambda v: v["traced"]["steps"][2].update(digest=_digest("x")),
        "its steps are not those that it gave before",
    ),
    "no steps after they were given": (5, lambda v: v.update(traced=None), "its steps are not those that it gave"),
    "a tensor": (
        3,
        lambda v: v["traced"]["line"]["variables"][0].update(digest=_digest("x")),
        "'traced.line' has another digest than its step",
    ),
    "steps of another epoch": (
        3,
        lambda v: v["traced"].update(line=None, steps=[{**step, "epoch": 2} for step in v["traced"]["steps"]]),
        "its steps are not of fit 0, epoch 1, in which the ledgers diverge",
    ),
    "tensors of another step": (
        3,
        lambda v: v["traced"].update(
            line=_step(2), steps=[*v["traced"]["steps"][:2], PlacedDigest.of_line(_step(2)).to_dict()]
        ),
        "its tensors are not of fit 0, epoch 1, step 1, the first step that differs",
    ),
    "the place of a line": (
        1,
        lambda v: v["ledger"][0].update(epoch=7),
        "it gives fit 0, epoch 7 for the digest of fit 0, epoch 0",
    ),
    "the place of a step": (
        3,
        lambda v: v["traced"].update(
            line=None, steps=[{**step, "step": step["step"] + 1} for step in v["traced"]["steps"]]
        ),
        "it gives fit 0, epoch 1, step 1 for the digest of fit 0, epoch 1, step 0",
    ),
    "an answer to another party": (
        3,
        lambda v: v["seen"].update(record=_digest("x")),
        "it answers another file than ours",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_contradiction_is_refused(parties: Parties, name: str) -> None:
    calls, change, message = REFUSED[name]
    parties.until(calls)
    parties.edit("one", change)
    before = parties.file("other").read_bytes() if calls > 1 else None
    with pytest.raises(RecordError) as caught:
        parties.call("other", "one")
    assert str(caught.value).startswith(f"{parties.file('one')}: {message}")
    assert (parties.file("other").read_bytes() if calls > 1 else None) == before


def _deep(values: Any) -> None:
    line: Any = values["traced"]["line"]
    line["tensors"] = {"trainable": {"more": []}}


HOSTILE: dict[str, tuple[Callable[[Any], object], str]] = {
    "no format": (lambda v: v.pop("format"), "'format' is missing; the file is not a challenge of a run"),
    "another format": (lambda v: v.update(format="x"), "'format' is 'x'; the file is not a challenge of a run"),
    "a newer version": (lambda v: v.update(version="2.0"), "challenge version 2.0 is newer than this samebits reads"),
    "a path as id": (lambda v: v.update(run="../../x"), "'run': '../../x' is no id of a run"),
    "escapes as id": (lambda v: v.update(run="\x1b[2J"), "'run': '\\x1b[2J' is no id of a run"),
    "no digest": (lambda v: v["ledger"][0].update(digest="x"), "'ledger[0].digest': not a digest: 'x'"),
    "a negative epoch": (lambda v: v["ledger"][0].update(epoch=-1), "'ledger[0].epoch' must be 0 or more"),
    "a large epoch": (lambda v: v["ledger"][0].update(epoch=1 << 64), "'ledger[0].epoch' must be 0 or more"),
    "a fraction": (lambda v: v["ledger"][0].update(epoch=0.5), "'ledger[0].epoch' must be int, not 0.5"),
    "no list": (lambda v: v.update(ledger={}), "'ledger' must be list"),
    "no steps": (lambda v: v["traced"].update(steps=[], line=None), "'traced.steps' is empty"),
    "a step without a place": (lambda v: v["traced"]["steps"][0].pop("step"), "'traced.steps' names no place"),
    "steps out of order": (lambda v: v["traced"]["steps"].reverse(), "'traced.steps' must be the steps of one epoch"),
    "steps of two epochs": (
        lambda v: v["traced"]["steps"][0].update(epoch=7),
        "'traced.steps' must be the steps of one epoch",
    ),
    "nested values of a step": (_deep, "'traced.line.tensors.trainable' must be str"),
    "a nested name": (lambda v: v["traced"]["line"].update(model={"a": 1}), "'traced.line.model' is no value"),
    "a tensor that is none": (lambda v: v["traced"]["line"].update(variables=[1]), "traced.line.variables[0] must"),
    "a nested tensor": (
        lambda v: v["traced"]["line"]["variables"][0].update(path={"a": {}}),
        "'traced.line.variables[0].path' is no value of a tensor",
    ),
    "half a character": (lambda v: v["traced"]["line"].update(model="\ud800"), ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line(parties: Parties, name: str) -> None:
    change, message = HOSTILE[name]
    parties.until(3)
    values = json.loads(parties.file("one").read_text())
    change(values)
    values.pop("seal")
    try:
        values = with_checksum(values)
    except ValueError:
        values["seal"] = _digest("x")
    parties.file("one").write_text(json.dumps(values))
    with pytest.raises(RecordError) as caught:
        parties.call("other", "one")
    assert str(caught.value).startswith(f"{parties.file('one')}: {message}")


def _large(path: Path) -> None:
    with path.open("wb") as file:
        os.truncate(file.fileno(), 1 << 40)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("{"), "is not JSON"),
        (lambda path: path.write_text("[" * 100_000), "is not JSON"),
        (lambda path: path.write_text('{"version": ' + "9" * 5000 + "}"), "is not JSON"),
        (lambda path: path.write_text("[]"), "must hold an object"),
        (lambda path: path.write_text('{"format": NaN}'), "'format' must be str"),
        (_large, "larger than 64 MiB"),
        (os.mkfifo, "it is a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a link"),
        (lambda path: path.mkdir(), "Is a directory"),
    ],
)
def test_what_is_no_file_of_digests(parties: Parties, make: Callable[[Path], object], message: str) -> None:
    make(parties.file("one"))
    with pytest.raises(RecordError, match=message):
        parties.call("other", "one")
    assert parties.asked == []


def test_a_change_by_accident(parties: Parties) -> None:
    parties.until(1)
    text = parties.file("one").read_text()
    parties.file("one").write_text(text.replace('"run": "one"', '"run": "two"'))
    with pytest.raises(RecordError, match="the checksum does not match: the challenge was changed"):
        parties.call("other", "one")


def test_too_many_digests(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    parties.until(1)
    monkeypatch.setattr(challenge_file, "MAX_DIGESTS", 3)
    with pytest.raises(RecordError, match=r"'ledger' has more than 3 digests$"):
        parties.call("other", "one")
    with pytest.raises(InputError, match=r"^a challenge holds at most 3 lines of a ledger, and other has more$"):
        parties.call("other")
    assert not parties.file("other").exists()


def test_who_cannot_reproduce_their_own_record(parties: Parties) -> None:
    """A trace counts only if its epoch ends in the line that was recorded."""
    parties.until(1)
    parties.again["other", False] = [_epoch(0), _epoch(1, "now")]
    with pytest.raises(RecordError, match=r"^other cannot reproduce its own record: trained again, ") as caught:
        parties.call("other", "one")
    assert str(caught.value).endswith(
        "; `samebits verify other --locate` finds where it differs, and `samebits check SCRIPT --run` what causes it"
    )
    assert not parties.file("other").exists()


def test_a_step_that_is_another_now(parties: Parties) -> None:
    parties.until(3)
    parties.steps["other"][1] = _step(1, "now")
    with pytest.raises(RecordError, match=r"^other cannot reproduce its own record: step 1, trained again, is another"):
        parties.call("other", "one")


def test_an_epoch_without_steps(parties: Parties) -> None:
    parties.until(1)
    parties.steps["other"] = []
    with pytest.raises(RecordError, match="trained again, it has no line for a step there"):
        parties.call("other", "one")


def test_the_last_checkpoint_before_comes_first(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a checkpoint that does not reproduce the record, and then from the beginning."""
    seen = []

    def before(side: Side, number: int) -> Resumption:
        seen.append(number)
        run = side.run[0]
        return Resumption(run=ResumedRun(id="a", checksum="b"), ledger=run.ledger, size=0, store=run.checkpoints)

    monkeypatch.setattr(challenge_party, "checkpoint_before", before)
    parties.until(1)
    parties.again["other", True] = [_epoch(0), _epoch(1, "now")]
    parties.call("other", "one")
    assert [start for _, _, start in parties.asked] == [True, False]
    assert seen == [2]


WITHOUT_A_STEP: dict[str, tuple[list[Line], list[str]]] = {
    "one ended": ([_epoch(0)], ["diverges at fit 0, epoch 1: one of the two runs has ended there"]),
    "another epoch": (
        [_epoch(0), _epoch(0, fit=1)],
        ["diverges at fit 0, epoch 1: the other run has fit 1, epoch 0 there"],
    ),
    "no epoch": (
        [_epoch(0), _epoch(1), _epoch(2), {"event": "end", "models": ["other"]}],
        ["diverges at line 4: it is no epoch of fit, so no step is looked for"],
    ),
}


@pytest.mark.parametrize("name", WITHOUT_A_STEP)
def test_where_no_step_is_looked_for(parties: Parties, name: str) -> None:
    parties.epochs["other"], expected = WITHOUT_A_STEP[name]
    parties.call("other")
    found = parties.call("one", "other")
    assert _lines(found) == expected
    assert (found.final, found.exit_status, parties.asked) == (True, 1, [])


def test_a_line_has_its_number_in_our_ledger(parties: Parties) -> None:
    """Which may have lines of steps, too; a line beyond its end follows the last one."""
    party = replace(parties.party("one"), numbers=(3, 6, 9, 10))
    parties.epochs["other"][1:] = parties.epochs["one"][1:3]
    parties.epochs["other"].append({"event": "end", "models": ["other"]})
    parties.call("other")
    found = exchange(party, parties.file("one"), parties.file("other"))
    assert _lines(found) == ["diverges at line 10: it is no epoch of fit, so no step is looked for"]
    assert party.line(4) == 11
    assert replace(party, numbers=()).line(0) == 1


def test_equal_ledgers(parties: Parties) -> None:
    parties.epochs["other"] = parties.epochs["one"]
    found = parties.until(2)
    assert (found.verdict, found.location, found.exit_status) == ("identical", None, 0)
    parties.edit("one", lambda values: values.update(result=_digest("x")))
    found = parties.call("other", "one")
    assert _lines(found)[0].startswith("not located: the ledgers agree")
    assert found.exit_status == 1


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            [_step(0), _step(1), _step(2)],
            "diverges at fit 0, epoch 1: no step differs: look at validation and callbacks",
        ),
        ([_step(0), _step(1)], "diverges at fit 0, epoch 1, step 2: one of the two epochs has no such step"),
        ([_step(0), _step(2)], "diverges at fit 0, epoch 1, step 1: one of the two epochs has no such step"),
    ],
)
def test_steps_that_do_not_differ(parties: Parties, steps: list[Line], message: str) -> None:
    parties.steps["other"] = steps
    found = parties.until(3)
    (line,) = _lines(found)
    assert line.startswith(message)
    assert found.final


def test_a_step_without_a_tensor_that_differs(parties: Parties) -> None:
    parties.steps["other"][1] = {**_step(1), "model": "n"}
    assert _lines(parties.until(4)) == ["diverges at fit 0, epoch 1, step 1: no tensor differs there, only model"]


def test_files_of_ours(parties: Parties) -> None:
    parties.until(2)
    with pytest.raises(InputError, match=r"one\.json is of another run, one; name another file for other$"):
        exchange(parties.party("other"), parties.file("one"), None)
    with pytest.raises(InputError, match="its folder does not exist"):
        exchange(parties.party("other"), parties.folder / "no" / "file.json", None)
    parties.file("two").write_text("my notes")
    with pytest.raises(RecordError, match="is not JSON"):
        exchange(parties.party("other"), parties.file("two"), None)
    assert parties.file("two").read_text() == "my notes"


def test_a_file_comes_back(parties: Parties) -> None:
    parties.until(5)
    found = read_challenge(parties.file("other"))
    write_challenge(parties.file("copy"), found)
    assert read_challenge(parties.file("copy")) == found
