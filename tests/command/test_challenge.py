"""`challenge`: two real runs of one recipe, whose owners find the place by files of digests alone."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from samebits.core.digest import with_checksum
from support.command import SCRIPTS, Done, call

pytestmark = pytest.mark.slow  # eight trainings


@dataclass(frozen=True)
class Party:
    """One who has a run and its data, and beside the data a file that no recipe holds."""

    folder: Path
    name: str

    @property
    def home(self) -> Path:
        return self.folder / self.name

    @property
    def run(self) -> Path:
        (path,) = (self.home / "runs").glob("2*/")
        return path

    def train(self, number: str, keep: str = "all") -> None:
        (self.home / "data").mkdir(parents=True)
        shutil.copy(SCRIPTS / "numbers.csv", self.home / "data")
        (self.home / "machine.txt").write_text(number)
        words = ("--data", f"{self.name}/data", "--runs", f"{self.name}/runs", "--runtime", "venv", "--keep", keep)
        done = call("train", "code/train.py", *words, folder=self.folder)
        assert done.status == 0, done.err

    def challenge(self, *words: str) -> Done:
        return call("challenge", str(self.run), f"{self.name}.json", *words, folder=self.folder)


@pytest.fixture(scope="module")
def parties(locked: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Party, Party]:
    assert locked is None
    return trained(tmp_path_factory.mktemp("challenge"), "all")


def trained(folder: Path, keep: str) -> tuple[Party, Party]:
    """Two who train the same script, with another number in the file that no recipe holds."""
    (folder / "code").mkdir()
    shutil.copy(SCRIPTS / "sidecar.py", folder / "code" / "train.py")
    one, other = Party(folder, "one"), Party(folder, "other")
    one.train("0.0", keep)
    other.train("0.001", keep)
    return one, other


def answers(parties: tuple[Party, Party]) -> list[Done]:
    """The five commands of an exchange."""
    one, other = parties
    first = [one.challenge()]
    calls = ((other, "one.json"), (one, "other.json")) * 2
    return first + [party.challenge("--against", theirs) for party, theirs in calls]


def test_an_exchange_ends_where_locate_does(parties: tuple[Party, Party]) -> None:
    one, other = parties
    words = ("verify", str(one.run), "--against", str(other.run), "--locate")
    located = call(*words, folder=one.folder)
    assert "at the beginning" not in located.err
    (expected,) = (line for line in located.out.splitlines() if line.startswith("diverges first at "))
    expected = expected.partition(": 8 of 8 values differ")[0]  # the distance needs both values
    assert expected == "diverges first at fit 0, epoch 1, step 1: output small/head (layer small/head)"
    done = answers(parties)
    assert [found.status for found in done] == [0, 1, 1, 1, 1], [found.err for found in done]
    places = [[line for line in found.out.splitlines() if line.startswith("diverges")] for found in done]
    assert places == [
        [],
        ["diverges at fit 0, epoch 1: send other.json, to find the step"],
        ["diverges at fit 0, epoch 1, step 1: send one.json, to find the tensor"],
        [expected],
        [expected],
    ]
    # Each trains from its checkpoint, and the last command trains nothing.
    assert ["again, from phase 0 after 1 epoch\n" in found.err for found in done] == [False, True, True, True, False]
    assert not any("the beginning" in found.err for found in done)
    # The runs stay as they were, and alone.
    for party in parties:
        assert call("audit", str(party.run), folder=party.folder).status == 0
    seen = (one.folder / "one.json").read_text() + (one.folder / "other.json").read_text()
    assert not [text for text in (str(one.folder), "machine.txt", "loss", "0x1.") if text in seen]


def test_the_tensors_are_looked_for_from_the_epoch_that_the_steps_were_found_in(locked: None, tmp_path: Path) -> None:
    """Without a checkpoint of the runs, the first training leaves the one that the second begins at."""
    assert locked is None
    one, other = trained(tmp_path, "none")
    located = call("verify", str(one.run), "--against", str(other.run), "--locate", folder=tmp_path)
    assert "diverges first at fit 0, epoch 1, step 1: output small/head (layer small/head)" in located.out
    assert "with every tensor of it, from phase 0 after 1 epoch; phase 0 after 1 epoch\n" in located.err
    assert ("starting at" in located.err, "earlier" in located.err) == (False, False)


def test_what_is_refused(parties: tuple[Party, Party], tmp_path: Path) -> None:
    """An answer that is not what it was, a file of something else, and a run whose cause is gone: one line each."""
    one, other = parties
    answers(parties)
    values: Any = json.loads((one.folder / "one.json").read_text())
    values.pop("seal")
    values["ledger"][0]["digest"] = values["ledger"][1]["digest"]
    path = tmp_path / "tampered.json"
    path.write_text(json.dumps(with_checksum(values)))
    done = other.challenge("--against", str(path))
    assert (done.status, done.complaint) == (2, f"{path}: its ledger is not the one that it gave before")
    done = other.challenge("--against", str(other.run / "record.json"))
    assert (done.status, done.complaint.partition(": ")[2]) == (
        2,
        "'format' is 'samebits.record'; the file is not a challenge of a run",
    )
    done = other.challenge("--against", str(tmp_path / "none.json"))
    assert (done.status, done.complaint) == (2, f"cannot read {tmp_path / 'none.json'}: No such file or directory")
    # The other machine is not what it was when it trained.
    (one.folder / "other.json").unlink()
    (other.home / "machine.txt").write_text("0.5")
    done = other.challenge("--against", "one.json")
    assert done.status == 2
    assert f"{other.run.name} cannot reproduce its own record: " in done.err
    assert not (one.folder / "other.json").exists()
    (other.home / "machine.txt").write_text("0.001")
