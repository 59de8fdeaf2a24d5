"""Check this host's CPU, GPU and memory against a recipe, one row each."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from samebits.core.cpu_info import describe_cpu
from samebits.core.determinism_profile import PORTABLE
from samebits.core.errors import InputError, SettingError
from samebits.core.gpu_info import read_gpus
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
    device, report = record.recipe.device, read_gpus(multiprocessors=True)
    system = record.environment.system
    seen = system.gpu.gpus[0] if system is not None and system.gpu.gpus else None
    wanted = f"{device.count} x {device.model}, {device.compute_capability}"
    if not report.gpus:
        return PreflightCheck(
            name="gpu", wanted=wanted, found="none", reason=str(report.reason), blocks=REPRODUCIBILITY_LEVELS
        )
    first = report.gpus[0]
    found = f"{len(report.gpus)} x {first.name}, {first.compute_capability}"
    same = (first.name, first.compute_capability) == (device.model, device.compute_capability)
    # One model is sold with different numbers of multiprocessors, and cuBLAS chooses its kernels by that number.
    multiprocessors = None if seen is None else seen.multiprocessors, first.multiprocessors
    if None not in multiprocessors and multiprocessors[0] != multiprocessors[1]:
        same, found = False, f"{found}, {multiprocessors[1]} multiprocessors instead of {multiprocessors[0]}"
    if len(report.gpus) < (device.count or 1):
        return PreflightCheck(
            name="gpu", wanted=wanted, found=found, reason="too few GPUs", blocks=REPRODUCIBILITY_LEVELS
        )
    try:
        report.check_driver()
    except SettingError as error:
        return PreflightCheck(name="gpu", wanted=wanted, found=found, reason=str(error), blocks=REPRODUCIBILITY_LEVELS)
    reason = "" if same else "another GPU model: neither cuDNN nor cuBLAS guarantees the same bits"
    return PreflightCheck(name="gpu", wanted=wanted, found=found, reason=reason, blocks=() if same else (BITWISE,))


def memory(record: Record) -> Iterator[PreflightCheck]:
    """The run's peak memory, if it was recorded, against the free memory."""
    peak = record.environment.peak_memory
    if peak is None:
        return
    with open("/proc/meminfo", encoding="ascii") as file:
        found = re.search(r"^MemAvailable: +(\d+) kB$", file.read(), re.MULTILINE)
    free = int(found[1]) << 10 if found else 0
    reason = "" if free >= peak else "less memory is free than the run used; it may be killed"
    yield PreflightCheck(name="memory", wanted=f"{peak >> 20} MiB", found=f"{free >> 20} MiB free", reason=reason)
