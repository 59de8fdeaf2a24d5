"""Two ledgers are compared without the keys of the chain, and with every key of the user's own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core.digest import Digest
from samebits.core.jsonio import canonical_json
from samebits.core.ledger import Ledger
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.core.trace_level import Trace
from samebits.host.compare.ledger_diff import Divergence, first_divergence


def diverge(folder: Path, record: Record, *metrics: Any) -> Divergence | None:
    """Where two runs part whose one epoch had these metrics; their recipes differ, and so do their chains."""
    runs = []
    for number, values in enumerate(metrics):
        run = RunDir(folder / str(number))
        run.path.mkdir()
        with Ledger(run.ledger, Digest.of_bytes(str(number).encode())) as ledger:
            ledger.append({"event": "epoch", "fit": 0, "epoch": 0, "metrics": values})
        runs.append((run, record))
    return first_divergence(runs[0], runs[1])


SHA = (str(Digest.of_bytes(b"1")), str(Digest.of_bytes(b"2")))


@pytest.mark.parametrize(
    "values",
    [
        ({"version": "1.0"}, {"version": "2.0"}),
        ({"line": 1}, {"line": 2}),
        ({"previous": SHA[0]}, {"previous": SHA[1]}),
    ],
    ids=["version", "line", "previous"],
)
def test_keys_of_the_user_count(tmp_path: Path, example: Record, values: tuple[Any, Any]) -> None:
    found = diverge(tmp_path, example, *values)
    assert found is not None
    (name,) = values[0]
    assert list(found.differences()) == [(f"metrics.{name}", values[0][name], values[1][name])]


@pytest.mark.parametrize("values", [{"loss": "0x1p+0"}, {"version": "1.0", "line": 1}])
def test_the_chain_does_not_count(tmp_path: Path, example: Record, values: Any) -> None:
    assert diverge(tmp_path, example, values, values) is None


def test_a_ledger_of_version_1_0_against_one_of_1_1(tmp_path: Path, example: Record) -> None:
    lines = {"event": "end", "models": ["m"]}
    old, new = RunDir(tmp_path / "old"), RunDir(tmp_path / "new")
    for run in (old, new):
        run.path.mkdir()
    old.ledger.write_bytes(canonical_json({**lines, "version": "1.0", "previous": SHA[0]}) + b"\n")
    with Ledger(new.ledger, example.recipe.digest) as ledger:
        ledger.append(lines)
    assert first_divergence((old, example), (new, replace(example))) is None


@pytest.mark.parametrize(
    ("digests", "diverges"),
    [
        (("xxh3-128:" + "0" * 32, "xxh3-128:" + "1" * 32), True),
        (("xxh3-128:" + "0" * 32, SHA[0]), False),  # two hashes of the same bytes: nothing can be said
        ((SHA[0], SHA[1]), True),
        (("xxh3-128:" + "0" * 32, None), True),  # one ended before its first step
    ],
)
def test_steps_count_if_their_digests_are_of_one_hash(
    tmp_path: Path, example: Record, digests: tuple[str, str | None], diverges: bool
) -> None:
    record = replace(example, trace=Trace(level="step"))
    runs = []
    for number, digest in enumerate(digests):
        run = RunDir(tmp_path / str(number))
        run.path.mkdir()
        with Ledger(run.ledger, example.recipe.digest) as ledger:
            ledger.append({"event": "epoch", "fit": 0, "epoch": 0})
            if digest is not None:
                ledger.append({"event": "step", "fit": 0, "epoch": 1, "step": 0, "tensors": {"trainable": digest}})
        runs.append((run, record))
    found = first_divergence(runs[0], runs[1])
    assert (found is not None and found.place("step") == 0) is diverges
