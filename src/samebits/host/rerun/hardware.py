"""Check this host's CPU, GPU and memory against a recipe, one row each."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from samebits.core.cpu_info import describe_cpu
from samebits.core.determinism_profile import PORTABLE
from samebits.core.errors import InputError, SettingError
from samebits.core.gpu_info import GpuReport, describe_device, read_gpus
from samebits.core.recipe import Device
from samebits.core.record import Record
from samebits.core.run_config import BITWISE, REPRODUCIBILITY_LEVELS
from samebits.core.run_setup import check_portable_cpu


@dataclass(frozen=True, kw_only=True, slots=True)
class PreflightCheck:
    """One requirement: `reason` is empty if it is met; `blocks` are the levels that cannot be judged otherwise."""

    name: str
    wanted: str
    found: str
    reason: str = ""
    blocks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The form in JSON."""
        return {
            "name": self.name,
            "wanted": self.wanted,
            "found": self.found,
            "follows": self.reason,
            "blocks": list(self.blocks),
        }


def hardware(record: Record) -> Iterator[PreflightCheck]:
    """The rows of CPU and GPU. The recipe's own row compares their classes again."""
    recipe, seen, here = record.recipe, record.environment.system, describe_cpu()
    instructions = here.instruction_set
    blocks: tuple[str, ...] = ()
    reason = ""
    # The portable profile needs the instruction set, not the same one.
    if recipe.profile == PORTABLE:
        try:
            check_portable_cpu()
        except InputError as error:
            blocks, reason = REPRODUCIBILITY_LEVELS, str(error)
    elif instructions != recipe.instruction_set:
        blocks, reason = (BITWISE,), "the native profile guarantees nothing on another instruction set"
    yield PreflightCheck(
        name="instructions", wanted=recipe.instruction_set, found=instructions, reason=reason, blocks=blocks
    )
    # The model is information only: the fingerprint decides.
    known = "not recorded" if seen is None else seen.cpu.model
    other = "" if known == here.model else "another model; the fingerprint shows whether it computes the same"
    yield PreflightCheck(name="cpu", wanted=known, found=here.model, reason=other)
    if recipe.device.kind == "gpu":
        yield _gpu_check(record)


def _gpu_check(record: Record) -> PreflightCheck:
    report = read_gpus(multiprocessors=True)
    wanted = f"{record.recipe.device.count} x {describe_device(_recorded_gpu(record))}"
    if not report.gpus:
        return _gpu_row(wanted, "none", str(report.reason), REPRODUCIBILITY_LEVELS)
    found = f"{len(report.gpus)} x {report.gpus[0]}"
    if len(report.gpus) < (record.recipe.device.count or 1):
        return _gpu_row(wanted, found, "too few GPUs", REPRODUCIBILITY_LEVELS)
    try:
        report.check_driver()
        report.check_architecture()
    except SettingError as error:
        return _gpu_row(wanted, found, str(error), REPRODUCIBILITY_LEVELS)
    try:
        here = report.device(record.recipe.device.count or 1)
    except SettingError as error:
        return _gpu_row(wanted, found, str(error), (BITWISE,))
    reason = _why_other_bits(_recorded_gpu(record), here)
    return _gpu_row(wanted, found, reason or _other_driver(record, report), (BITWISE,) if reason else ())


def _gpu_row(wanted: str, found: str, reason: str, blocks: tuple[str, ...]) -> PreflightCheck:
    return PreflightCheck(name="gpu", wanted=wanted, found=found, reason=reason, blocks=blocks)


def _recorded_gpu(record: Record) -> Device:
    """The device of a recipe. A recipe from before version 1.7 has less; then it is what the run observed."""
    device, system = record.recipe.device, record.environment.system
    seen = system.gpu.gpus[0] if system is not None and system.gpu.gpus else None
    if seen is None or device.multiprocessors is not None:
        return device
    return replace(device, multiprocessors=seen.multiprocessors, mig=device.mig or seen.mig)


def _why_other_bits(recorded: Device, here: Device) -> str:
    """Why this host's GPU may compute other bits than the recorded one; empty if nothing says so."""
    one, other = ((device.model, device.compute_capability) for device in (recorded, here))
    if one != other:
        return "another GPU model: neither cuDNN nor cuBLAS guarantees the same bits"
    if recorded.mig != here.mig:
        return "another slice of a GPU (MIG): it has other numbers of multiprocessors and caches"
    if recorded.multiprocessors is None or recorded.multiprocessors == here.multiprocessors:
        return ""
    if here.multiprocessors is None:
        return "the number of multiprocessors cannot be read here, and cuBLAS guarantees the same bits for one only"
    return "another number of multiprocessors: cuBLAS guarantees the same bits for one number only"


def _other_driver(record: Record, report: GpuReport) -> str:
    """A note where another driver compiles TensorFlow's kernels, which decides nothing by itself."""
    system = record.environment.system
    known = None if system is None else system.gpu.driver
    if known in (None, report.driver) or not report.gpus[0].compiles_ptx:
        return ""
    return (
        f"driver {report.driver} instead of {known}: it compiles TensorFlow's kernels for this GPU, maybe to other bits"
    )


def memory(record: Record) -> Iterator[PreflightCheck]:
    """The run's peak memory, if it was recorded, against the free memory."""
    if record.environment.peak_memory is None:
        return
    # Measured of one worker.
    peak = record.environment.peak_memory * record.recipe.world_size
    with open("/proc/meminfo", encoding="ascii") as file:
        found = re.search(r"^MemAvailable: +(\d+) kB$", file.read(), re.MULTILINE)
    free = int(found[1]) << 10 if found else 0
    reason = "" if free >= peak else "less memory is free than the run used; it may be killed"
    yield PreflightCheck(name="memory", wanted=f"{peak >> 20} MiB", found=f"{free >> 20} MiB free", reason=reason)
