"""The machine's fingerprint, computed once for each software, CPU, profile and boot, and kept in the cache.

`verify` and `resume` ask the run's own software how this machine computes, which takes seconds. As long as nothing of
the key below changes, the answer cannot change either, so it is read from the cache. `samebits fingerprint` always
computes.
"""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.cpu_info import describe_cpu, microcode
from samebits.core.determinism_profile import Profile
from samebits.core.digest import Digest, confirmed_fields, with_checksum
from samebits.core.errors import RecordError, StorageError
from samebits.core.jsonio import Fields, parse_json, readable_json, write_atomically
from samebits.core.recipe import ImageIdentity
from samebits.host.cache_dir import cache_folder, read_own
from samebits.host.launch.runtime import Runtime

FINGERPRINT_FORMAT = "samebits.fingerprint"
FINGERPRINT_VERSION = "1.0"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MAPS = Path("/proc/self/maps")
_ANY_CORES = ("cores", "cores_usable")  # the profile fixes the threads, so the cores decide nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Computed:
    """Digests by operation; None where the software gave none, and ended with `status`."""

    operations: Mapping[str, str] | None
    status: int = 0


def machine_fingerprint(profile: Profile, runtime: Runtime) -> Computed:
    """How this machine computes with a runtime's software: from the cache, else by starting that software."""
    key = _key_of(profile, runtime)
    known = None if key is None else read_cached(key)
    if known is not None:
        return Computed(operations=known)
    runtime.prepare()
    arguments = ("fingerprint", "--profile", profile.name, "--threads", str(profile.threads), "--json")
    status, text = runtime.query(arguments, profile.variables)
    try:
        found = Fields(json.loads(text)).mapping("operations", str)
    except (ValueError, RecordError):
        return Computed(operations=None, status=status)
    if key is not None:
        write_cached(key, found)
    return Computed(operations=found, status=status)


def _key_of(profile: Profile, runtime: Runtime) -> dict[str, Any] | None:
    """The key, or None where nothing may be cached: another machine computes, or this one does not show what it is."""
    try:
        return fingerprint_key(profile, runtime.setup.image) if runtime.here else None
    except OSError:
        return None


def fingerprint_key(profile: Profile, software: ImageIdentity) -> dict[str, Any]:
    """All that the answer depends on."""
    names = ("lock", "packages", "source", "config", "base")
    digests = {name: None if (digest := getattr(software, name)) is None else str(digest) for name in names}
    cpu = {name: value for name, value in describe_cpu().to_dict().items() if name not in _ANY_CORES}
    return {
        # An image brings a C library of its own, a virtual environment takes the machine's.
        "software": {**digests, "python": software.python, "c_library": None if software.base else _c_library()},
        "cpu": {**cpu, "microcode": microcode()},
        "profile": {"name": profile.name, "threads": profile.threads, "variables": profile.variables},
        "kernel": f"{platform.release()} {platform.version()}",
        "boot": _BOOT_ID.read_text().strip(),
    }


def read_cached(key: Mapping[str, Any]) -> dict[str, str] | None:
    """The digests that were kept under a key; None where there are none, or the file is damaged."""
    try:
        value = parse_json(read_own(_path(key)))
        fields = confirmed_fields(value, FINGERPRINT_FORMAT, FINGERPRINT_VERSION)
        if fields.get("key", dict) != key:
            return None
        operations = fields.inner("operations")
        return {name: operations.get(name, str) for name in operations.names()}
    except (OSError, ValueError, RecordError, StorageError, RecursionError):
        return None


def write_cached(key: Mapping[str, Any], operations: Mapping[str, str]) -> None:
    """Keep digests under a key, atomically; a cache that cannot be written to costs time and nothing else."""
    body = {
        "format": FINGERPRINT_FORMAT,
        "version": FINGERPRINT_VERSION,
        "key": dict(key),
        "operations": dict(operations),
    }
    try:
        write_atomically(_path(key), readable_json(with_checksum(body)))
    except (StorageError, ValueError):  # ValueError: what the software answered is no JSON proper
        return


def _path(key: Mapping[str, Any]) -> Path:
    return cache_folder("fingerprints") / f"{Digest.of_json(key).hex}.json"


def _c_library() -> str:
    """The digest of the C library's files that this process has loaded; they change without a boot."""
    lines = _MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    paths = {Path(line.split(maxsplit=5)[-1]) for line in lines if line.endswith((".so", ".so.6"))}
    files = sorted(path for path in paths if path.name in ("libc.so.6", "libm.so.6") and path.is_file())
    return str(Digest.of_json([str(Digest.of_file(path)) for path in files]))
