"""Pairs of real runs that differ in one thing: `diff` names it, `verify` judges, `--locate` finds the place."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samebits.core.record import read_record
from support.command import SCRIPTS, Done, Project, call
from support.images import OtherPin, plain_run
from support.records import observed

STEPS = 4
"""Batches in an epoch of the script."""


@dataclass
class Pairs:
    """A folder with the run that all others are compared with."""

    folder: Path
    base: str

    def train(self, *options: str, script: str = "code/train.py", data: str = "data", runtime: str = "venv") -> str:
        """Train with a line for each step; returns the run's folder."""
        words = ("--data", data, "--runtime", runtime, "--trace", "step", *options)
        done = call("train", script, *words, folder=self.folder)
        assert done.status == 0, done.err
        return str(done.run)

    def diff(self, other: str, one: str | None = None) -> list[dict[str, Any]]:
        done = call("diff", one or self.base, other, "--json", folder=self.folder)
        found: list[dict[str, Any]] = json.loads(done.out)
        assert done.status == (1 if found else 0)
        return found

    def verify(self, other: str, *options: str, one: str | None = None) -> Done:
        return call("verify", one or self.base, "--against", other, *options, folder=self.folder)

    def located(self, other: str, one: str | None = None) -> dict[str, Any]:
        """Where a pair diverges, trained again."""
        done = self.verify(other, "--locate", "--json", one=one)
        assert done.status == 1, done.err
        location: dict[str, Any] = json.loads(done.out)["location"]
        return location


@pytest.fixture(scope="module")
def pairs(locked: None, tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    assert locked is None
    folder = tmp_path_factory.mktemp("matrix")
    (folder / "code").mkdir()
    shutil.copy(SCRIPTS / "images.py", folder / "code" / "train.py")
    generator = np.random.default_rng(1)
    images = generator.normal(size=(16 * STEPS, 16, 16, 3)).astype("float32")
    labels = generator.integers(0, 4, 16 * STEPS)
    write_data(folder / "data", images, labels)
    found = Pairs(folder, "")
    found.base = found.train()
    return found


def write_data(folder: Path, images: Any, labels: Any) -> None:
    folder.mkdir()
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)


def with_data(pairs: Pairs, name: str, change: Callable[[Any], None]) -> str:
    """A run on the data with its images changed in place."""
    images, labels = (np.load(pairs.folder / "data" / f"{what}.npy") for what in ("images", "labels"))
    change(images)
    write_data(pairs.folder / name, images, labels)
    return pairs.train(data=name)


def one_byte(images: Any) -> None:
    """One byte of one pixel in the last batch."""
    images.view(np.uint8).reshape(-1)[-(16 * 16 * 3 * 4) + 2] ^= 0x40


def one_sign(images: Any) -> None:
    """A pixel in the second batch."""
    images[20, 3, 3, 0] *= -1


def with_line(pairs: Pairs) -> str:
    """The script with a line changed, in a folder of its own."""
    folder = pairs.folder / "edited"
    folder.mkdir()
    text = (pairs.folder / "code" / "train.py").read_text()
    (folder / "train.py").write_text(
        text.replace('activation="relu", name="second"', 'activation="elu", name="second"')
    )
    return pairs.train(script="edited/train.py")


SEEDS = {f"setting seed of {library}" for library in ("Keras", "NumPy", "Python", "TensorFlow")}
THREADS = {f"setting TF_NUM_INT{kind}_THREADS" for kind in ("EROP", "RAOP")} | {
    f"setting int{kind} threads" for kind in ("er-op", "ra-op")
}
DATA = {"recipe data.tree", "data images.npy"}


@dataclass(frozen=True)
class Row:
    """How a run is made, the inputs that must be named, and the place where the ledgers diverge.

    `also` are kinds of which any may be named besides, as what they say follows from the cause.
    """

    train: Callable[[Pairs], str]
    inputs: set[str]
    where: str | None
    also: tuple[str, ...] = ()


ROWS = {
    "unchanged": Row(Pairs.train, set(), None),
    "seed": Row(lambda pairs: pairs.train("--seed", "1"), {"recipe seed", *SEEDS}, "fit 0, epoch 0, step 0"),
    "a data byte": Row(lambda pairs: with_data(pairs, "byte", one_byte), DATA, "fit 0, epoch 0, step 3"),
    "a pixel's sign": Row(lambda pairs: with_data(pairs, "sign", one_sign), DATA, "fit 0, epoch 0, step 1"),
    "a hyperparameter": Row(
        lambda pairs: pairs.train("--", "--rate", "0.02"), {"recipe code.arguments"}, "fit 0, epoch 0, step 0"
    ),
    "a line of code": Row(with_line, {"recipe code.tree", "code train.py"}, "fit 0, epoch 0, step 0"),
    "threads": Row(
        lambda pairs: pairs.train("--threads", "1"),
        {"recipe profile.threads", *THREADS},
        "fit 0, epoch 0, step 0",
        also=("operation",),
    ),
    "profile": Row(
        lambda pairs: pairs.train("--profile", "portable"),
        {"recipe profile.name", "recipe profile.threads", "recipe profile.instruction_set"},
        "fit 0, epoch 0, step 0",
        also=("setting", "machine", "operation"),
    ),
    "a weight moved in a step": Row(
        lambda pairs: pairs.train("--", "--perturb", "5"), {"recipe code.arguments"}, "fit 0, epoch 1, step 1"
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_differs_is_named(pairs: Pairs, name: str) -> None:
    row = ROWS[name]
    other = row.train(pairs)
    found = pairs.diff(other)
    inputs = {f"{item['kind']} {item['name']}" for item in found if item["side"] == "inputs"}
    assert row.inputs <= inputs
    assert {text.partition(" ")[0] for text in inputs - row.inputs} <= set(row.also)
    ledger = [item["name"] for item in found if item["kind"] == "ledger"]
    assert all(text.startswith(f"{row.where}, ") for text in ledger)
    assert bool(ledger) == (row.where is not None)
    done = pairs.verify(other)
    assert (done.status, done.out.splitlines()[-1].partition(":")[0]) == (
        (0, "identical") if row.where is None else (1, "different")
    )
    mirrored = [(item["kind"], item["name"], item["after"], item["before"]) for item in pairs.diff(pairs.base, other)]
    assert sorted(mirrored, key=str) == sorted(
        ((item["kind"], item["name"], item["before"], item["after"]) for item in found), key=str
    )


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--unseeded", "no input differs, and the script draws unseeded randomness: train.py:22: "),
        ("--set", "no input differs: the cause is not recorded in a recipe"),
    ],
)
def test_what_no_recipe_holds(pairs: Pairs, option: str, reason: str) -> None:
    """Two runs of one recipe: no input differs, and the outputs diverge at the first step."""
    one, other = (pairs.train("--", option) for _ in range(2))
    found = pairs.diff(other, one)
    assert {item["side"] for item in found} == {"outputs"}
    assert all(item["name"].startswith("fit 0, epoch 0, step 0, ") for item in found if item["kind"] == "ledger")
    done = pairs.verify(other, one=one)
    assert done.status == 1
    assert reason in done.out
    again = call("verify", one, folder=pairs.folder)
    assert (again.status, again.out.splitlines()[-1]) == (1, "different")


def test_a_moved_weight_is_located(pairs: Pairs) -> None:
    """Epoch, step, tensor and layer, from the last checkpoint before; outputs and gradients are still the same."""
    done = pairs.verify(pairs.train("--", "--perturb", "5"), "--locate", "--json")
    location = json.loads(done.out)["location"]
    assert "locating: starting at checkpoints: phase 0 after 1 epoch; phase 0 after 1 epoch\n" in done.err
    assert "at the beginning" not in done.err
    assert (location["fit"], location["epoch"], location["step"]) == (0, 1, 1)
    (cause,) = location["causes"]
    assert (cause["kind"], cause["tensor"], cause["layer"]) == ("variable", "small/head/kernel", "small/head")
    distance = cause["distance"]
    assert (distance["differing"], distance["elements"], distance["ulps"]) == (1, 64, 1)


def test_a_changed_pixel_is_located(pairs: Pairs) -> None:
    """The input diverges first, in one value of the batch; then the first layer's output, and so on."""
    location = pairs.located(with_data(pairs, "pixel", one_sign))
    assert (location["fit"], location["epoch"], location["step"]) == (0, 0, 1)
    causes = [(cause["kind"], cause["layer"]) for cause in location["causes"]]
    assert causes[:2] == [("input", "small"), ("output", "small/first")]
    assert location["causes"][0]["distance"]["differing"] == 1


def test_another_seed_is_located(pairs: Pairs) -> None:
    """The input is the same; what the first layer makes of it is not, as its weights are others."""
    location = pairs.located(pairs.train("--seed", "1"))
    assert (location["fit"], location["epoch"], location["step"]) == (0, 0, 0)
    assert (location["causes"][0]["kind"], location["causes"][0]["layer"]) == ("output", "small/first")


def test_a_generator_without_a_seed_is_located(pairs: Pairs) -> None:
    """Both sides of a plain `verify` are the same recipe, and diverge by themselves."""
    run = pairs.train("--", "--unseeded")
    done = call("verify", run, "--locate", folder=pairs.folder)
    assert done.status == 1
    assert "diverges first at fit 0, epoch 0, step 0: input small (layer small): " in done.out
    assert done.out.splitlines()[-1] == "different"


@pytest.mark.slow  # the same is located in the virtual environment
def test_it_is_located_in_containers_too(engine: str, pairs: Pairs) -> None:
    assert engine
    one, other = (pairs.train("--", "--perturb", step, runtime="docker") for step in ("5", "9"))
    location = pairs.located(other, one=one)
    assert (location["epoch"], location["step"]) == (1, 1)
    (cause,) = location["causes"]
    assert (cause["tensor"], cause["distance"]["ulps"]) == ("small/head/kernel", 1)


@pytest.mark.slow  # another lock's image is built in test_image
def test_another_wheel_of_one_package(in_docker: Project, other_pin: OtherPin) -> None:
    """The package is named with both versions; the verdict says that it changes no bit."""
    in_docker.runs.mkdir()
    for image in ("samebits:cpu", other_pin.tag):
        assert plain_run(in_docker, "train.py", "--", "--epochs", "1", image=image).status == 0
    one, other = (str(path.parent) for path in sorted(in_docker.runs.glob("*/record.json")))
    done = call("diff", one, other, "--json", folder=in_docker.folder)
    found = {(item["kind"], item["name"]): (item["before"], item["after"]) for item in json.loads(done.out)}
    assert found.keys() == {("recipe", "image.lock"), ("package", other_pin.name)}
    assert found["package", other_pin.name] in {(other_pin.old, other_pin.new), (other_pin.new, other_pin.old)}
    done = call("verify", one, "--against", other, folder=in_docker.folder)
    assert (done.status, done.out.splitlines()[-1].partition(":")[0]) == (0, "identical")
    for run in (one, other):  # each in its own image
        done = call("verify", run, "--data", "data", folder=in_docker.folder)
        assert (done.status, done.out.splitlines()[-1].partition(":")[0]) == (0, "identical"), done.out + done.err
        assert "rebuilding" not in done.err
        verified = [read_record(Path(run) / "record.json"), read_record(in_docker.folder / done.run / "record.json")]
        assert observed(verified[0]).distributions == observed(verified[1]).distributions
