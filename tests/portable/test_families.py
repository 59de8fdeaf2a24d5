"""Every family of models under both profiles, on two cores, one core and a busy machine, against the golden table.

The usual lane attests one group of the table, in the README's test, and trains in a container.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from samebits.core.environment import Environment
from samebits.core.record import read_record
from samebits.host.rerun.golden import GROUPS, Golden, models
from support.command import ROOT, call
from support.machine import busy, cores

FAMILIES = ROOT / "examples" / "families"
GOLDEN = Golden.read(FAMILIES / "golden.json").rows
QUICK = tuple(group for group in GROUPS if group != "applications")
"""The groups that several tests train."""

pytestmark = [pytest.mark.usefixtures("locked"), pytest.mark.cold, pytest.mark.timeout(3600)]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The results of a run."""

    models: dict[str, str]
    environment: Environment


def train(runs: Path, profile: str, *families: str, runtime: str = "venv") -> Trained:
    """Train the named families."""
    options = ("--profile", profile, "--runtime", runtime, "--runs", str(runs))
    done = call("train", str(FAMILIES / "train.py"), *options, "--", *families, folder=FAMILIES)
    assert done.status == 0, done.err
    record = read_record(done.run / "record.json")
    return Trained(models=models(record.result), environment=record.environment)


@pytest.fixture(scope="module", params=["native", "portable"])
def trained(
    locked: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Trained]:
    """Runs under three loads of one machine. The golden table stands for two cores in the portable profile."""
    assert locked is None
    runs = tmp_path_factory.mktemp(request.param)
    families = QUICK if request.param == "portable" else (*QUICK, "native")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONHASHSEED", raising=False)
        if request.param == "native":
            with cores(2):
                found["two cores"] = train(runs, request.param, *families)
        with cores(1):
            found["one core"] = train(runs, request.param, *families)
        with cores(2), busy():
            found["busy"] = train(runs, request.param, *families)
    return found


@pytest.mark.parametrize(
    ("load", "families"),
    [
        pytest.param(partial(cores, 1), ("layers",), id="one core", marks=pytest.mark.slow),
        pytest.param(partial(cores, 1), ("losses",), id="one core, losses", marks=pytest.mark.slow),
        pytest.param(busy, ("optimizers",), id="busy", marks=pytest.mark.slow),
    ],
)
def test_the_golden_table(
    load: Callable[[], AbstractContextManager[None]], families: tuple[str, ...], tmp_path: Path
) -> None:
    with load():
        found = train(tmp_path, "portable", *families)
    assert found.environment.guarantee is not None
    assert found.environment.guarantee.profile == "portable"
    assert found.models == {name: digest for group in families for name, digest in GOLDEN[group].items()}
    assert found.environment.arithmetic is not None
    assert len(found.environment.arithmetic.operations) > 100


@pytest.mark.slow  # three times each
def test_families_repeat(trained: dict[str, Trained]) -> None:
    first = trained["one core"]
    assert {name: run.models for name, run in trained.items()} == dict.fromkeys(trained, first.models)
    assert len(first.models) >= sum(len(GOLDEN[group]) for group in QUICK)
    assert first.environment.guarantee is not None
    if first.environment.guarantee.profile == "portable":
        assert first.models == {name: digest for group in QUICK for name, digest in GOLDEN[group].items()}


@pytest.mark.slow
def test_every_run_records_its_fingerprint(trained: dict[str, Trained]) -> None:
    found = [run.environment.arithmetic for run in trained.values()]
    assert len({None if one is None else one.digest for one in found}) == 1
    assert found[0] is not None
    assert len(found[0].operations) > 100


def test_the_profiles_differ(tmp_path: Path) -> None:
    """Otherwise the golden table would prove nothing."""
    assert train(tmp_path, "native", "normalisation").models["normalisation"] != GOLDEN["layers"]["normalisation"]


@pytest.mark.slow
def test_large_models(tmp_path: Path) -> None:
    assert train(tmp_path, "portable", "applications").models == GOLDEN["applications"]


def test_in_a_container(engine: str, tmp_path: Path) -> None:
    assert engine
    found = train(tmp_path, "portable", "losses", "initialisers", "preprocessed", runtime="docker")
    wanted = GOLDEN["losses"] | {name: GOLDEN["layers"][name] for name in ("initialisers", "preprocessed")}
    assert found.models == wanted
    assert found.environment.guarantee is not None
    assert found.environment.guarantee.unproven == ()
