"""The CPU, as /proc/cpuinfo and /sys describe it: model, flags, caches and x86-64 level."""

import os
import platform
from pathlib import Path

# The micro-architecture levels of the x86-64 psABI, by the flag names of /proc/cpuinfo.
_LEVELS = (
    ("x86-64-v2", {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    ("x86-64-v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    ("x86-64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)


def instruction_set() -> str:
    """The highest x86-64 level whose flags the CPU has; on other machines their name, such as `aarch64`."""
    machine = platform.machine()
    if machine != "x86_64":
        return machine
    flags = set(_cpuinfo().get("flags", "").split())
    level = "x86-64"
    for name, needed in _LEVELS:
        # Levels are cumulative, so the first missing one ends the search.
        if not needed <= flags:
            break
        level = name
    return level


def describe_cpu() -> dict[str, object]:
    """The CPU as the record stores it: model, vendor, family, flags, cache sizes, and all and usable cores."""
    info = _cpuinfo()
    return {
        "model": info.get("model name", platform.processor() or "unknown"),
        "vendor": info.get("vendor_id", "unknown"),
        "family_model_stepping": "/".join(info.get(key, "?") for key in ("cpu family", "model", "stepping")),
        "instruction_set": instruction_set(),
        "flags": sorted(info.get("flags", "").split()),
        "caches": _caches(),
        "cores": os.cpu_count() or 0,
        # A container or taskset may allow fewer cores than the machine has.
        "cores_usable": len(os.sched_getaffinity(0)),
    }


def microcode() -> str:
    """The revision of the first processor's microcode; empty where the kernel does not show it."""
    return _cpuinfo().get("microcode", "")


def _cpuinfo() -> dict[str, str]:
    """The first processor's block of /proc/cpuinfo; all cores are assumed alike."""
    found: dict[str, str] = {}
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            # An empty line ends the block of the first processor.
            if not line.strip():
                break
            key, _, value = line.partition(":")
            found[key.strip()] = value.strip()
    return found


def _caches() -> list[dict[str, str]]:
    """The caches of the first core, as the kernel describes them; empty if it does not."""
    folders = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
    return [{name: _read_text(folder / name) for name in ("level", "type", "size")} for folder in folders]


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return "unknown"
