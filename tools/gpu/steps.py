"""The steps of the proof, in the order of their worth. Each returns what is written to its file."""

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from tools.gpu.trainings import ROOT, SCRIPTS, Place

from samebits.core.environment import Environment
from samebits.core.errors import SamebitsError
from samebits.core.gpu_info import Gpu
from samebits.core.record import FINISHED, Record
from samebits.core.run_config import REPRODUCIBILITY_LEVELS, RunConfig
from samebits.core.trace_level import STEP, TENSOR, Trace
from samebits.core.trial import OP_DETERMINISM, Trial
from samebits.host.probe.overhead import settings_of
from samebits.host.rerun.golden import GROUPS
from samebits.host.rerun.hardware import hardware

DIGITS = ROOT / "examples" / "digits"
FAMILIES = ROOT / "examples" / "families" / "train.py"
TF32, AUTOTUNE = "NVIDIA_TF32_OVERRIDE", "TF_CUDNN_USE_AUTOTUNE"
_KILLED_AFTER = 4  # lines of the ledger

Found = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step: `seconds` is what it may take before the next one begins without it."""

    name: str
    question: str
    seconds: float
    run: Callable[[Place], Found]


def sees(place: Place) -> Found:
    """Devices and versions, and the same from NVML and the CUDA driver."""
    return place.call("sees.py", seconds=150) | {"nvml": place.gpus.to_dict(), "on_gpu": place.on_gpu}


def digits(place: Place) -> Found:
    """The digits example twice."""
    return _twice(place, place.spec(DIGITS / "train.py", "--epochs", "5", data=DIGITS / "data"))


def families(place: Place) -> Found:
    """Each group of model families twice; the results of the models by name."""
    found: Found = {}
    for group in GROUPS:
        # A group that fails must not take the others along.
        try:
            found[group] = _twice(place, place.spec(FAMILIES, group))
        except SamebitsError as error:
            found[group] = {"equal": None, "error": str(error)}
    return {"equal": _all_equal(found.values()), "groups": found}


def pins(place: Place) -> Found:
    """Do the pins change anything? Each training without one, twice, against the one with all."""
    spec = place.spec(DIGITS / "train.py", "--epochs", "2", data=DIGITS / "data")
    full = _described(place.train(replace(spec, trial=Trial()))[1])
    rows = {}
    for name, without in (("TF32 on", (TF32,)), ("op determinism off", (OP_DETERMINISM,))):
        runs = [_described(place.train(replace(spec, trial=Trial(without=without)))[1]) for _ in range(2)]
        rows[name] = {
            "repeats": _equal(runs),
            "bites": None if runs[0]["weights"] is None else runs[0]["weights"] != full["weights"],
            "runs": runs,
        }
    return {"with_all": full, "without": rows, "autotune": _autotune(place)}


def _autotune(place: Place) -> Found:
    """How cuDNN chooses by measuring, which op determinism turns off; without samebits, which refuses the variable."""
    variants: dict[str, tuple[tuple[str, ...], str]] = {
        "deterministic": (("deterministic", "tf32-off"), "1"),
        "autotune on": (("tf32-off",), "1"),
        "autotune off": (("tf32-off",), "0"),
    }
    return {
        name: [place.call("autotune.py", *words, seconds=120, **{AUTOTUNE: value})["weights"] for _ in range(2)]
        for name, (words, value) in variants.items()
    }


def raising(place: Place) -> Found:
    """The operations that raise under op determinism, against the runner's table."""
    return place.call("raising.py", seconds=120)


def resume(place: Place) -> Found:
    """Kill a training, resume it, and compare with one that was not killed."""
    spec = place.spec(DIGITS / "train.py", "--epochs", "5", data=DIGITS / "data")
    whole = place.train(spec)[1]
    killed_folder, killed = place.train_and_kill(spec, _KILLED_AFTER)
    resumed = place.resume(killed_folder, spec)[1]
    begun = resumed.origin.resumes
    runs = {name: _described(record) for name, record in (("whole", whole), ("killed", killed), ("resumed", resumed))}
    return {
        "equal": _equal([runs["whole"], runs["resumed"]]),
        "runs": runs,
        "checkpoint": None if begun is None else str(begun.checkpoint),
        "reproduced": None if begun is None else begun.reproduced,
    }


def traces(place: Place) -> Found:
    """The same result without a trace, with one of steps and with one of tensors."""
    spec = place.spec(DIGITS / "train.py", "--epochs", "2", data=DIGITS / "data")
    asked = {"epoch": Trace(), STEP: Trace(level=STEP), TENSOR: Trace(level=TENSOR)}
    runs = {name: _described(place.train(replace(spec, trace=trace))[1]) for name, trace in asked.items()}
    return {"equal": _equal(list(runs.values())), "runs": runs}


def cost(place: Place, rounds: int = 2) -> Found:
    """Seconds of a step with all settings and without each, interleaved."""
    spec = place.spec(DIGITS / "train.py", "--epochs", "2", data=DIGITS / "data", keep="none")
    rows = [("with all", ()), *settings_of(spec.determinism)]
    found: dict[str, list[float | None]] = {name: [] for name, _ in rows}
    for _ in range(rounds):
        for name, without in rows:
            record = place.train(replace(spec, trial=Trial(steps=80, without=without)))[1]
            found[name].append(record.timings.step)
    return {"seconds_per_step": found}


def portable(place: Place) -> Found:
    """The portable profile on a GPU is refused, with its reason."""
    try:
        place.spec(DIGITS / "train.py", profile="portable", gpus="1")
    except SamebitsError as error:
        return {"equal": True, "refused": str(error)}
    return {"equal": False, "refused": None}


def side_by_side(place: Place) -> Found:
    """Two trainings at the same time, and one alone."""
    spec = place.spec(SCRIPTS / "side_by_side.py", exclude=("[!s]*", "sees.py"))
    with ThreadPoolExecutor(2) as pool:
        both = [future.result()[1] for future in [pool.submit(place.train, spec) for _ in range(2)]]
    runs = [_described(record) for record in (*both, place.train(spec)[1])]
    return {"equal": _equal(runs), "runs": runs}


def comparable(place: Place) -> Found:
    """What preflight says of a run on this GPU: here, and for a GPU that differs in one respect."""
    spec = place.spec(DIGITS / "train.py", "--epochs", "1", data=DIGITS / "data")
    record = place.train(spec)[1]
    found = {"here": _gpu_rows(record)}
    system = record.environment.system
    if not place.on_gpu or system is None:
        return found
    for name, other in _other_gpus(system.gpu.gpus[0]):
        seen = replace(system, gpu=replace(system.gpu, gpus=(other,)))
        device = replace(
            record.recipe.device,
            model=other.name,
            compute_capability=other.compute_capability,
            multiprocessors=other.multiprocessors,
        )
        elsewhere = replace(
            record, recipe=replace(record.recipe, device=device), environment=replace(record.environment, system=seen)
        )
        found[name] = _gpu_rows(elsewhere)
    return found


def _other_gpus(gpu: Gpu) -> Iterator[tuple[str, Gpu]]:
    yield "other model", replace(gpu, name="NVIDIA A100-SXM4-80GB", compute_capability="8.0")
    yield "other number of multiprocessors", replace(gpu, multiprocessors=(gpu.multiprocessors or 0) - 18)


def fingerprint(place: Place) -> Found:
    """About a hundred operations, twice in processes of their own, keyed by what they depend on."""
    device = "gpu" if place.on_gpu else "cpu"
    variables = place.spec(DIGITS / "train.py").variables
    first, second = (place.call("gpu_fingerprint.py", device, seconds=120, **variables) for _ in range(2))
    gpu = place.gpus.gpus[0] if place.on_gpu else None
    key = {
        "model": "no GPU" if gpu is None else gpu.name,
        "compute_capability": None if gpu is None else gpu.compute_capability,
        "multiprocessors": None if gpu is None else gpu.multiprocessors,
        "driver": place.gpus.driver,
        "lock": place.kind.lock_digest.hex,
    }
    return {"equal": first["operations"] == second["operations"], "key": key, **first}


STEPS = (
    Step(name="sees", question="does TensorFlow see the GPU, with the locked CUDA and cuDNN?", seconds=90, run=sees),
    Step(name="digits", question="does the digits example repeat?", seconds=60, run=digits),
    Step(name="families", question="does each family repeat?", seconds=150, run=families),
    Step(name="pins", question="does a run without a setting differ?", seconds=90, run=pins),
    Step(name="raising", question="which operations raise under op determinism?", seconds=30, run=raising),
    Step(name="resume", question="does a killed run resume to the same bits?", seconds=60, run=resume),
    Step(name="traces", question="does a trace change no bit?", seconds=60, run=traces),
    Step(name="cost", question="what does each setting cost?", seconds=90, run=cost),
    Step(name="portable", question="is the portable profile refused?", seconds=5, run=portable),
    Step(name="side_by_side", question="do two trainings at once repeat?", seconds=60, run=side_by_side),
    Step(name="comparable", question="what does preflight say of other GPUs?", seconds=30, run=comparable),
    Step(name="fingerprint", question="how does this GPU compute?", seconds=30, run=fingerprint),
)
"""In the order of their worth: what runs out of time is the last."""


def _twice(place: Place, spec: RunConfig) -> Found:
    runs = [_described(place.train(spec)[1]) for _ in range(2)]
    return {"equal": _equal(runs), "runs": runs}


def _described(record: Record) -> Found:
    """A run for the report."""
    result, outcome = record.result, record.outcome
    weights = None if result is None else json.dumps({model.name: str(model.digest) for model in result.models})
    return {
        "id": record.id,
        "outcome": outcome.state,
        "message": outcome.message,
        "recipe": str(record.recipe.digest),
        "result": None if record.result_digest is None else str(record.result_digest),
        "weights": weights,
        "seconds": record.timings.total,
        "settings": _settings(record.environment),
    }


def _settings(environment: Environment) -> Mapping[str, str]:
    return {item.name: item.found for item in environment.settings or ()}


def _equal(runs: list[Found]) -> bool | None:
    """Whether all have the same result; None where one has none."""
    if any(run["outcome"] != FINISHED or run["result"] is None for run in runs):
        return None
    return len({run["result"] for run in runs}) == 1


def _all_equal(found: Any) -> bool | None:
    values = [item["equal"] for item in found]
    return None if None in values else all(values)


def _gpu_rows(record: Record) -> list[Found]:
    rows = [row.to_dict() for row in hardware(record) if row.name == "gpu"]
    return [row | {"rules_out": [level for level in REPRODUCIBILITY_LEVELS if level in row["blocks"]]} for row in rows]
