"""What CPU this is, from /proc/cpuinfo and /sys: model, flags, caches, and its x86-64 level."""

import os
import platform
from pathlib import Path

# The x86-64 psABI's micro-architecture levels, in the flags' names of /proc/cpuinfo.
_LEVELS = (
    ("x86-64-v2", {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    ("x86-64-v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    ("x86-64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)


def instruction_set() -> str:
    """The highest x86-64 level whose flags are all there; elsewhere the machine's name, such as `aarch64`."""
    machine = platform.machine()
    if machine != "x86_64":
        return machine
    flags = set(_cpuinfo().get("flags", "").split())
    level = "x86-64"
    for name, needed in _LEVELS:
        if not needed <= flags:
            break
        level = name
    return level


def describe_cpu() -> dict[str, object]:
    """Model, vendor, family, flags, caches in bytes, and the cores there are and that this process may use."""
    info = _cpuinfo()
    return {
        "model": info.get("model name", platform.processor() or "unknown"),
        "vendor": info.get("vendor_id", "unknown"),
        "family_model_stepping": "/".join(info.get(key, "?") for key in ("cpu family", "model", "stepping")),
        "instruction_set": instruction_set(),
        "flags": sorted(info.get("flags", "").split()),
        "caches": _caches(),
        "cores": os.cpu_count() or 0,
        "cores_usable": len(os.sched_getaffinity(0)),
    }


def _cpuinfo() -> dict[str, str]:
    """The first processor's block of /proc/cpuinfo."""
    found: dict[str, str] = {}
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.strip():
                break
            key, _, value = line.partition(":")
            found[key.strip()] = value.strip()
    return found


def _caches() -> list[dict[str, str]]:
    """Each cache of the first core as the kernel describes it; empty where it does not."""
    folders = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
    return [{name: _text(folder / name) for name in ("level", "type", "size")} for folder in folders]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return "unknown"
