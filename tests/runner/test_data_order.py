"""In which order rows reach a training: what repeats on a busy machine or one core as well, and what cannot repeat."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from samebits.core.record import read_record
from support.command import SCRIPTS, call
from support.machine import busy, cores

# Each module-wide training takes half a minute; test_shuffle has the usual lane's share.
pytestmark = pytest.mark.slow

EFFECTS = {
    "in_order": False,
    "fit_shuffle": True,
    "fit_validation_split": True,
    "shuffle": True,
    "shuffle_once": True,
    "shuffle_seeded": True,  # TensorFlow mixes the seed of the run into an operation's own
    "shuffle_seeded_once": True,
    "map_slow": False,
    "map_slow_unordered": False,
    "map_random": True,
    "map_random_seeded": True,
    "map_random_stateless": False,
    "map_numpy_global": True,
    "map_augmentation": True,
    "interleave": False,
    "interleave_unordered": False,
    "sample_from_datasets": True,
    "files_listdir_sorted": False,
    "files_glob_sorted": False,
    "files_list_files": True,
    "files_list_files_in_order": False,
    "files_directory": True,
    "files_directory_seeded": True,
    "loader_one_worker": True,  # Keras shuffles the batches of a PyDataset
    "loader_own_state": True,
    "loader_workers_own_state": True,
    "generator": False,
    "generator_numpy_global": True,
}
"""Every effect that repeats, and whether the run's seed moves it."""

DIFFERS = ("unseeded_generator", "seed_from_the_clock", "loader_workers_shared_state")
"""What no setting can repeat."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One run: its result's digest, and by model its digest and those of its weights, in which no name counts."""

    result: str
    digests: Mapping[str, str]
    weights: Mapping[str, tuple[str, ...]]


@pytest.fixture(scope="module")
def folder(locked: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert locked is None
    folder = tmp_path_factory.mktemp("orders")
    shutil.copy(SCRIPTS / "orders.py", folder / "train.py")
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, Trained]:
    """The same training on other machines, as far as one machine can be others."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONHASHSEED", raising=False)  # as in a user's shell: setting it is up to us
        with cores(1):
            found["one core"] = _train(folder)
        with cores(2), busy():
            found["busy"] = _train(folder)
    return found


@pytest.fixture(scope="module")
def other_seed(folder: Path) -> Trained:
    return _train(folder, "--seed", "1")


@pytest.fixture(scope="module")
def some(folder: Path) -> list[Trained]:
    """What cannot repeat, three times: threads that race may come in one order twice."""
    return [_train(folder, "--", *DIFFERS) for _ in range(3)]


def test_each_effect_is_there(runs: dict[str, Trained]) -> None:
    assert {name: tuple(run.digests) for name, run in runs.items()} == dict.fromkeys(runs, tuple(EFFECTS))


@pytest.mark.parametrize("effect", EFFECTS)
def test_repeats(runs: dict[str, Trained], effect: str) -> None:
    found = {name: run.digests[effect] for name, run in runs.items()}
    assert found == dict.fromkeys(runs, found["busy"])


def test_the_whole_result_repeats(runs: dict[str, Trained]) -> None:
    """Metrics as well, validation's among them."""
    found = {name: run.result for name, run in runs.items()}
    assert found == dict.fromkeys(runs, found["busy"])


@pytest.mark.parametrize(
    "group",
    [
        ("in_order", "fit_shuffle", "fit_validation_split", "interleave", "sample_from_datasets"),
        ("in_order", "shuffle", "shuffle_once", "shuffle_seeded", "shuffle_seeded_once"),
        ("in_order", "map_random", "map_random_seeded", "map_random_stateless", "map_numpy_global", "map_augmentation"),
        ("files_listdir_sorted", "files_list_files", "files_directory", "files_directory_seeded"),
        ("in_order", "loader_one_worker", "loader_own_state", "generator", "generator_numpy_global"),
    ],
    ids=["arrays", "shuffle", "map", "files", "loaders"],
)
def test_orders_reach_the_bits(runs: dict[str, Trained], group: tuple[str, ...]) -> None:
    """Else repeating would mean nothing."""
    weights = [runs["busy"].weights[effect] for effect in group]
    assert len(set(weights)) == len(group)


@pytest.mark.parametrize(
    "group",
    [
        ("in_order", "map_slow", "map_slow_unordered"),
        ("interleave", "interleave_unordered"),
        ("files_listdir_sorted", "files_glob_sorted", "files_list_files_in_order"),
        ("loader_own_state", "loader_workers_own_state"),
    ],
    ids=["map", "interleave", "files", "loaders"],
)
def test_parallel_work_changes_no_order(runs: dict[str, Trained], group: tuple[str, ...]) -> None:
    """Neither do the orders that a script allows, nor that in which files were written."""
    weights = {effect: runs["busy"].weights[effect] for effect in group}
    assert weights == dict.fromkeys(group, weights[group[0]])


def test_what_the_seed_moves(runs: dict[str, Trained], other_seed: Trained) -> None:
    before = runs["busy"].digests
    assert {effect: before[effect] != other_seed.digests[effect] for effect in before} == EFFECTS


@pytest.mark.parametrize("effect", DIFFERS)
def test_does_not_repeat(some: list[Trained], effect: str) -> None:
    """Written down as a test: should one repeat one day, we may promise more."""
    assert len({run.digests[effect] for run in some}) > 1


def _train(folder: Path, *options: str) -> Trained:
    done = call("train", "train.py", "--runtime", "venv", *options, folder=folder)
    assert done.status == 0, done.err
    result = read_record(folder / done.run / "record.json").result
    assert result is not None
    models = result.models
    return Trained(
        result=done.line("result"),
        digests={model.name: model.digest for model in models},
        weights={model.name: tuple(tensor.digest for tensor in model.tensors["trainable"]) for model in models},
    )
