"""What a recorded run asks of this host: how it computes."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.environment import Arithmetic
from samebits.core.record import Record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import RunSetup
from samebits.host import docker
from samebits.host.launch.runtime import Runtime
from samebits.host.rerun.preflight import _fingerprint_check
from samebits.host.rerun.software import SoftwareOptions, find_software

_KNOWN = {"tf.exp": "0" * 16, "tf.nn.gelu": "1" * 16}


def runtime(record: Record, answer: str) -> Runtime:
    """One whose software gives this answer."""

    def query(_words: tuple[str, ...], _variables: Mapping[str, str]) -> tuple[int, str]:
        return 0, answer

    return Runtime(setup=RunSetup(image=record.recipe.image), prepare=lambda: None, run=lambda *_: 0, query=query)


@pytest.mark.parametrize(
    ("answer", "blocks"),
    [
        (json.dumps({"operations": _KNOWN}), ()),
        (json.dumps({"operations": _KNOWN | {"tf.nn.gelu": "2" * 16}}), ("bitwise",)),
        (json.dumps({"operations": {}}), ("bitwise",)),
        ("no JSON", ("bitwise", "metrics", "documented")),
    ],
)
def test_the_machine_must_compute_as_recorded(
    answer: str, blocks: tuple[str, ...], example: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path))
    record = replace(
        example, environment=replace(example.environment, arithmetic=Arithmetic(digest="", operations=_KNOWN))
    )
    spec = RunConfig(script=Path("train.py"))
    (row,) = _fingerprint_check(record, spec, runtime(record, answer))
    assert row.blocks == blocks


def test_a_missing_engine_has_no_replacement(tmp_path: Path, example: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run decides on its runtime, so no option is offered that `verify` and `preflight` do not have."""

    def unanswered() -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(docker, "_connect", unanswered)
    monkeypatch.setenv("DOCKER_HOST", "unix:///none.sock")
    image = replace(example.recipe.image, python=None)
    record = replace(example, recipe=replace(example.recipe, image=image))
    (check,), runtime = find_software(RunDir(tmp_path), record, SoftwareOptions())
    assert runtime is None
    where = "unix:///none.sock"
    assert check.reason == f"no container engine answers at {where}; start one: the run was trained in a container"
