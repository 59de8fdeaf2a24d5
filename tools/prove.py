"""Make the tables of the portable profile: `python tools/prove.py`; needs an engine and some minutes.

`src/samebits/runner/determinism/proven.json`: every portable run and `samebits fingerprint` are compared with it.
`examples/families/golden.json`: `samebits attest` and the tests are compared with it.

Run it after a change of the lock's versions or the profile's settings, then `make test-portable`. The tables are valid
once other CPUs reproduce them.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from samebits.core.determinism_profile import PORTABLE_THREADS
from samebits.core.jsonio import differing_names, readable_json, write_atomically
from samebits.core.record import Record, read_record
from samebits.host.rerun.golden import GROUPS, write_golden

ROOT = Path(__file__).parents[1]
COMMAND = str(Path(sys.executable).with_name("samebits"))
PROVEN = ROOT / "src" / "samebits" / "runner" / "determinism" / "proven.json"
FAMILIES = ROOT / "examples" / "families"
EXACT_IN_FLOAT64 = {"Erfc float64", "Exp float64"}
"""Operations that the exact ones are computed with; float64 convolutions depend on the size of the CPU's caches."""
OTHER_THREADS = PORTABLE_THREADS[1:]
VERSIONS = ("tensorflow", "keras", "numpy", "ml-dtypes", "opt-einsum", "optree")
"""What computes, or decides the order of what is computed; other packages of a project do not matter."""


def main() -> None:
    """Write the fingerprint, without which no portable run starts, then the operations that the families use."""
    lock = (ROOT / "requirements.lock").read_text()
    names = {name: name for name in VERSIONS} | {"tensorflow": "tensorflow-cpu"}
    pins = dict(line.split()[0].split("==") for line in lock.splitlines() if "==" in line and line[0].isalpha())
    table: dict[str, Any] = {"operations": [], "fingerprint": {}, "libc": {}, "threads": {}}
    table["versions"] = {name: pins[names[name]] for name in VERSIONS}
    write_atomically(PROVEN, readable_json(table))
    subprocess.run([COMMAND, "build"], check=True)
    fingerprint, in_image = (fingerprint_in(runtime) for runtime in ("venv", "docker"))
    table["fingerprint"] = fingerprint["operations"]
    # Some functions come from the C library, and the image has another one than this machine.
    by_libc = [name for name, digest in table["fingerprint"].items() if in_image["operations"][name] != digest]
    for found in (fingerprint, in_image):
        table["libc"][found["libc"]] = {name: found["operations"][name] for name in by_libc}
    table["threads"] = {}
    for number in OTHER_THREADS:
        found = fingerprint_in("venv", "--threads", str(number))["operations"]
        named = differing_names(found, table["fingerprint"])
        table["threads"][str(number)] = {name: found[name] for name in named}
    write_atomically(PROVEN, readable_json(table))
    records = {
        number: {group: trained(group, number) for group in GROUPS if number == 1 or group != "applications"}
        for number in PORTABLE_THREADS
    }
    guarantees = [record.environment.guarantee for groups in records.values() for record in groups.values()]
    reached = {name for found in guarantees if found is not None for name in found.operations or ()}
    reached |= set(fingerprint["reached"])
    proven = sorted(name for name in reached if not name.endswith(" float64") or name in EXACT_IN_FLOAT64)
    write_atomically(PROVEN, readable_json(table | {"operations": proven}))
    write_golden(FAMILIES / "golden.json", records)


def fingerprint_in(runtime: str, *options: str) -> dict[str, Any]:
    """The output of `samebits fingerprint`, which does not depend on the table."""
    command = [COMMAND, "fingerprint", "--runtime", runtime, "--json", *options]
    return dict(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout))


def trained(group: str, threads: int) -> Record:
    """Train one group by a number of threads and return its record."""
    with tempfile.TemporaryDirectory() as runs:
        options = ["--runtime", "venv", "--profile", "portable", "--threads", str(threads), "--runs", runs, "--", group]
        subprocess.run([COMMAND, "train", str(FAMILIES / "train.py"), *options], check=True)
        (record,) = Path(runs).glob("*/record.json")
        return read_record(record)


if __name__ == "__main__":
    main()
