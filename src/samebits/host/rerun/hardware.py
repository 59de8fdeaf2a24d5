"""What a recipe asks of this host's processors and memory, row by row."""

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
    """One thing that the recipe wants: `follows` is empty where it is met, `blocks` the goals that cannot be judged."""

    name: str
    wanted: str
    found: str
    follows: str = ""
    blocks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "name": self.name,
            "wanted": self.wanted,
            "found": self.found,
            "follows": self.follows,
            "blocks": list(self.blocks),
        }


def hardware(record: Record) -> Iterator[PreflightCheck]:
    """CPU and GPU; that the recipe's classes are met is told by the recipe's row, too."""
    recipe, seen, here = record.recipe, record.environment.system, describe_cpu()
    instructions = here.instruction_set
    blocks: tuple[str, ...] = ()
    follows = ""
    if recipe.profile == PORTABLE:
        try:
            check_portable_cpu()
        except InputError as error:
            blocks, follows = REPRODUCIBILITY_LEVELS, str(error)
    elif instructions != recipe.instruction_set:
        blocks, follows = (BITWISE,), "the native profile promises nothing for another instruction set"
    yield PreflightCheck(
        name="instructions", wanted=recipe.instruction_set, found=instructions, follows=follows, blocks=blocks
    )
    known = "not recorded" if seen is None else seen.cpu.model
    other = "" if known == here.model else "another model: the fingerprint tells whether it computes the same"
    yield PreflightCheck(name="cpu", wanted=known, found=here.model, follows=other)
    if recipe.device.kind == "gpu":
        yield _gpu(record)


def _gpu(record: Record) -> PreflightCheck:
    device, report = record.recipe.device, read_gpus(multiprocessors=True)
    system = record.environment.system
    seen = system.gpu.gpus[0] if system is not None and system.gpu.gpus else None
    wanted = f"{device.count} x {device.model}, {device.compute_capability}"
    if not report.gpus:
        return PreflightCheck(
            name="gpu", wanted=wanted, found="none", follows=str(report.reason), blocks=REPRODUCIBILITY_LEVELS
        )
    first = report.gpus[0]
    found = f"{len(report.gpus)} x {first.name}, {first.compute_capability}"
    same = (first.name, first.compute_capability) == (device.model, device.compute_capability)
    multiprocessors = None if seen is None else seen.multiprocessors, first.multiprocessors
    if None not in multiprocessors and multiprocessors[0] != multiprocessors[1]:
        same, found = False, f"{found}, {multiprocessors[1]} multiprocessors instead of {multiprocessors[0]}"
    if len(report.gpus) < (device.count or 1):
        return PreflightCheck(
            name="gpu", wanted=wanted, found=found, follows="too few GPUs", blocks=REPRODUCIBILITY_LEVELS
        )
    try:
        report.check_driver()
    except SettingError as error:
        return PreflightCheck(name="gpu", wanted=wanted, found=found, follows=str(error), blocks=REPRODUCIBILITY_LEVELS)
    follows = "" if same else "another GPU model: neither cuDNN nor cuBLAS promises the same bits"
    return PreflightCheck(name="gpu", wanted=wanted, found=found, follows=follows, blocks=() if same else (BITWISE,))


def memory(record: Record) -> Iterator[PreflightCheck]:
    """What the run took at most, where it was recorded, against what is free."""
    peak = record.environment.peak_memory
    if peak is None:
        return
    with open("/proc/meminfo", encoding="ascii") as file:
        found = re.search(r"^MemAvailable: +(\d+) kB$", file.read(), re.MULTILINE)
    free = int(found[1]) << 10 if found else 0
    follows = "" if free >= peak else "less is free than the run took; it may be killed"
    yield PreflightCheck(name="memory", wanted=f"{peak >> 20} MiB", found=f"{free >> 20} MiB free", follows=follows)
