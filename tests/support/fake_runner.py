"""A training without TensorFlow that plays the container's half where a runtime would start it.

Its weights are bytes: each epoch's are the digest of those before. It writes ledger, checkpoints and record as a real
one does, through the same code, and so it can be resumed, and ended where it is asked to.
"""

import shutil
import signal
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core.checkpoint_store import Checkpoint, Position, describe_reached
from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.ledger import Ledger
from samebits.core.record import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    LedgerEnd,
    Outcome,
    Record,
    Resumability,
    read_record,
    write_record,
)
from samebits.core.result import FitResult, ModelResult, Result
from samebits.core.run_dir import RunDir
from samebits.core.timings import Timings
from samebits.host.cache_dir import cache_folder
from samebits.host.cli.parser import main
from samebits.host.image.build_context import staged_context
from samebits.host.subprocesses import INHERITED, Streams
from support.command import Done, Project

_BEGIN = b"seed"


@dataclass
class Player:
    """Stages of so many epochs. `noise` is what some epochs compute besides; at `dies` it ends without a word.

    `fails` is an epoch in which the script raises; `unlike` makes the end another one; a checkpoint holds `state`, too.
    With `seeded` the weights follow the run's seed; `only` is the one seed whose run dies or fails, if not all do.
    """

    recipe: Path = field(default_factory=staged_context)
    stages: tuple[int, ...] = (4,)
    noise: dict[tuple[int, int], bytes] = field(default_factory=dict)
    dies: tuple[int, int] | None = None
    fails: tuple[int, int] | None = None
    refuses: tuple[str, ...] = ()
    unlike: bytes = b""
    state: dict[str, Any] = field(default_factory=dict)
    trained: list[tuple[int, int]] = field(default_factory=list)
    proven: list[str] = field(default_factory=list)
    seeded: bool = False
    only: int | None = None

    def __call__(
        self,
        words: tuple[str, ...],
        _variables: Mapping[str, str],
        recipe: Path | None = None,
        _to: Streams = INHERITED,
        **_: object,
    ) -> int:
        """Instead of `run_in_venv`."""
        assert words[0] == "--run"
        folder = RunDir(Path(words[1]))
        if not folder.image.exists():
            shutil.copytree(recipe or self.recipe, folder.image, ignore=shutil.ignore_patterns("__pycache__"))
        record = read_record(folder.record)
        with Ledger(folder.ledger, record.recipe.digest) as ledger:
            return self._play(folder, record, ledger)

    def _play(self, folder: RunDir, record: Record, ledger: Ledger) -> int:
        resumes = record.origin.resumes
        place, until = (None, None) if resumes is None else (resumes.checkpoint, resumes.until)
        weights, losses = self._state(folder, place, ledger)
        if self.refuses:
            folder.checkpoints.refuse(self.refuses)
        if self.seeded and place is None:
            weights += str(record.recipe.seed).encode()
        meant = self.only in (None, record.recipe.seed)
        for stage, epoch in self._left(place):
            if meant and (stage, epoch) == self.dies:
                return -9
            if meant and (stage, epoch) == self.fails:
                return self._seal(folder, record, ledger, Outcome(state=FAILED, message="no", exit_status=1))
            weights = Digest.of_bytes(weights + self.noise.get((stage, epoch), b"")).hex.encode()
            losses[stage].append(float(weights[0]).hex())
            self.trained.append((stage, epoch))
            line = {
                "event": "epoch",
                "fit": stage,
                "epoch": epoch,
                "model": "m",
                "metrics": {"loss": losses[stage][-1]},
            }
            ledger.append({**line, "tensors": {"trainable": str(Digest.of_bytes(weights))}})
            here = Position(phase=stage, epoch=epoch + 1)
            self._keep(folder, record, ledger, here, {"losses": losses[stage], **self.state}, weights)
            if here == until:
                ended = Outcome(state=INTERRUPTED, message=describe_reached(here), exit_status=0)
                return self._seal(folder, record, ledger, ended)
        digest = Digest.of_bytes(weights + self.unlike)
        ledger.append({"event": "end", "models": [str(digest)]})
        fits = tuple(FitResult(model=0, epochs=len(values), history={"loss": tuple(values)}) for values in losses)
        model = ModelResult(name="m", how="fit", tensors={}, digest=str(digest))
        record = replace(record, result=Result(models=(model,), fits=fits))
        return self._seal(folder, record, ledger, Outcome(state=FINISHED, exit_status=0))

    def _state(self, folder: RunDir, place: Position | None, ledger: Ledger) -> tuple[bytes, list[list[str]]]:
        losses: list[list[str]] = [[] for _ in self.stages]
        if place is None:
            return _BEGIN, losses
        for needed in folder.checkpoints.needed(place):
            found = folder.checkpoints.read(needed)
            losses[needed.phase] = list(found.state["losses"])
        ledger.resume_at(found.lines, found.last)
        return folder.checkpoints.content(Digest.parse(found.objects[0])), losses

    def _keep(
        self, folder: RunDir, record: Record, ledger: Ledger, here: Position, state: dict[str, Any], weights: bytes
    ) -> None:
        if not record.retention.writes or self.refuses:
            return
        text = str(Digest.of_bytes(weights))
        recipe, lines, last = record.recipe.digest, ledger.lines, ledger.last
        found = Checkpoint(position=here, recipe=recipe, lines=lines, last=last, state=state, objects=(text,))
        self._prove(folder, record, found)
        folder.checkpoints.write(found, {text: weights})
        folder.checkpoints.prune(record.retention)

    def _prove(self, folder: RunDir, record: Record, found: Checkpoint) -> None:
        """Compare with the checkpoint to reproduce, as the real runner does."""
        resumes = record.origin.resumes
        if resumes is not None and resumes.replays == found.position:
            self.proven.append(found.position.name)
            if folder.checkpoints.read(found.position) != found:
                raise InputError(f"did not reproduce {found.position}")

    def _left(self, place: Position | None) -> Iterator[tuple[int, int]]:
        for stage, epochs in enumerate(self.stages):
            for epoch in range(epochs):
                if place is None or (stage, epoch + 1) > (place.phase, place.epoch):
                    yield stage, epoch

    def _seal(self, folder: RunDir, record: Record, ledger: Ledger, outcome: Outcome) -> int:
        resumable = Resumability(resumable=not self.refuses, reasons=self.refuses)
        end = LedgerEnd(lines=ledger.lines, last=str(ledger.last))
        folder.finalize(replace(record, outcome=outcome, resumable=resumable, ledger=end, timings=Timings(total=1.0)))
        return outcome.exit_status or 0


@dataclass
class Played:
    """A project whose trainings are played, in this process."""

    project: Project
    player: Player
    output: pytest.CaptureFixture[str]

    def call(self, *words: str) -> Done:
        """The command line, without a process of its own."""
        self.output.readouterr()
        status = main(words)
        said = self.output.readouterr()
        return Done(status=status, out=said.out, err=said.err)

    def train(self, *options: str) -> RunDir:
        """One training, however it ends."""
        return RunDir(Path(self.call(*self.project.command(*options)[1:]).run))

    def runs(self) -> int:
        """How many there are."""
        return len(list(self.project.runs.glob("*/record.json")))


@pytest.fixture
def played(
    small_project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Played]:
    """The small project, with a player in the place of its trainings."""
    player = Player()
    monkeypatch.setattr("samebits.host.launch.venv.run_in_venv", player)
    monkeypatch.setattr("samebits.host.launch.venv.prepare_venv", lambda *_, **__: None)
    monkeypatch.setattr("samebits.host.capsule.gather.prepare_wheelhouse", _wheels)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.chdir(small_project.folder)
    before = signal.getsignal(signal.SIGTERM)
    yield Played(small_project, player, capsys)
    signal.signal(signal.SIGTERM, before)


def _wheels(*_: object, **__: object) -> Path:
    """One wheel in the place of those of a lock."""
    folder = cache_folder("played")
    (folder / "six-1.17.0-py2.py3-none-any.whl").write_bytes(b"a wheel")
    return folder


def unsealed(run: RunDir) -> RunDir:
    """The run as a power cut leaves it: nobody has sealed its record."""
    record = run.read()
    run.record.unlink()
    write_record(
        run.record,
        replace(record, outcome=Outcome(state=RUNNING), result=None, ledger=None, host=None, timings=Timings()),
    )
    run.reserve.write_bytes(b"room")
    return run


def spoil(path: Path, old: bytes, new: bytes) -> None:
    """Change a file that may be read-only, and shared with other runs, in place of this one only."""
    content = path.read_bytes()
    assert old in content
    path.unlink()
    path.write_bytes(content.replace(old, new, 1))
