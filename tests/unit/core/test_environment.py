"""What a run was observed on comes back as it was written, and what was not observed leaves no key."""

import json
from dataclasses import replace
from typing import Any

import pytest

from samebits.core.environment import (
    Arithmetic,
    EngineInfo,
    Environment,
    NondeterministicOpUse,
    PortabilityGuarantee,
    ReadBack,
    RunImage,
)
from samebits.core.errors import RecordError
from samebits.core.gpu_info import Gpu, GpuReport
from samebits.core.jsonio import Fields
from samebits.core.record import Record
from samebits.core.script_uses import EntropyUse, UnpinnedUse
from support.records import observed

_SETTING = ReadBack(name="TF32", asked="False", found="False", by="tf.config")
_GPU = Gpu(name="NVIDIA A", compute_capability="9.0", memory=80 << 30, multiprocessors=132)


@pytest.fixture
def whole(example: Record) -> Environment:
    """With everything that can be observed."""
    return Environment(
        runtime="docker",
        engine=EngineInfo(name="Docker Engine", version="29.1", containerd_image_store=True),
        image=RunImage(reference="samebits:cpu", id="sha256:0", details={"layers": ["sha256:1"], "builder": {}}),
        image_note="none",
        system=replace(observed(example), gpu=GpuReport(gpus=(_GPU,), driver="550.1", cuda_driver="12.5")),
        arithmetic=Arithmetic(digest="d", operations={"tf.exp": "0"}, onednn="AVX2", numpy_features=("X86_V3",)),
        settings=(_SETTING,),
        guarantee=PortabilityGuarantee(profile="portable", operations=("tf.exp",), unproven=()),
        entropy=(EntropyUse(path="train.py", line=5, call="os.urandom(3)", times=2),),
        unpinned=(UnpinnedUse(path="a.py", line=2, call="open(p)", kind="file", what="/home/me/p", times=1),),
        nondeterministic_ops=(NondeterministicOpUse(operation="Timestamp", layer="", way=None, gpu_only=False),),
        peak_memory=1 << 30,
    )


def _read(value: dict[str, Any]) -> Environment:
    return Environment.from_fields(Fields(json.loads(json.dumps(value)), "environment"))


def test_everything_comes_back(whole: Environment) -> None:
    assert _read(whole.to_dict()) == whole


@pytest.mark.parametrize(
    ("environment", "keys"),
    [
        (Environment(), set()),
        (Environment(runtime="venv", image_note="none"), {"runtime", "engine", "image_note"}),
        (Environment(settings=(), entropy=()), {"settings", "entropy"}),
        (Environment(guarantee=PortabilityGuarantee(profile="native")), {"promise"}),
    ],
)
def test_what_was_not_observed_leaves_no_key(environment: Environment, keys: set[str]) -> None:
    assert set(environment.to_dict()) == keys
    assert _read(environment.to_dict()) == environment


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("gpu", "gpus", 0, "name"), None, "missing value in 'environment.gpu.gpus[0].name'"),
        (("gpu", "gpus", 0, "memory"), "80 GiB", "'environment.gpu.gpus[0].memory' must be int, not '80 GiB'"),
        (("engine", "containerd_image_store"), 1, "'environment.engine.containerd_image_store' must be bool, not 1"),
        (("image", "id"), None, "missing value in 'environment.image.id'"),
        (("undetermined", 0, "gpu_only"), None, "missing value in 'environment.undetermined[0].gpu_only'"),
        (("entropy", 0), "x", "environment.entropy[0] must hold an object, not str"),
        (("promise", "unproven"), [1], "'environment.promise.unproven[0]' must be str, not 1"),
        (("numpy_features",), "X86_V3", "'environment.numpy_features' must be list, not 'X86_V3'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_path(
    whole: Environment, path: tuple[str | int, ...], value: object, message: str
) -> None:
    written = json.loads(json.dumps(whole.to_dict()))
    holder = written
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    with pytest.raises(RecordError) as caught:
        _read(written)
    assert str(caught.value) == message


def test_settings_are_added_to_those_known() -> None:
    first = Environment(runtime="venv", settings=(_SETTING,))
    found = first.with_observed(Environment(settings=(replace(_SETTING, name="other"),), peak_memory=1))
    assert found == replace(first, settings=(_SETTING, replace(_SETTING, name="other")), peak_memory=1)
    assert first.with_observed(Environment(peak_memory=2)).settings == (_SETTING,)
