"""Make the tables of the portable profile on this machine, which has an engine: `python tools/prove.py`; some minutes.

`src/samebits/runner/determinism/proven.json` is what every run and every `samebits fingerprint` is compared with;
`examples/families/golden.json` is what `samebits attest` and the tests compare. Run it where versions in the lock or
the profile's settings have changed, then `make test-portable`: the tables are true once other CPUs agree.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from samebits.core.jsonio import readable_json, write_atomically
from samebits.core.record import Record, read_record
from samebits.host.rerun.golden import GROUPS, write_golden

ROOT = Path(__file__).parents[1]
COMMAND = str(Path(sys.executable).with_name("samebits"))
PROVEN = ROOT / "src" / "samebits" / "runner" / "determinism" / "proven.json"
FAMILIES = ROOT / "examples" / "families"
EXACT_IN_FLOAT64 = {"Erfc float64", "Exp float64"}
"""What the exact operations compute by; convolutions in float64 were found to follow the CPU's caches."""
VERSIONS = ("tensorflow", "keras", "numpy")


def main() -> None:
    """First the fingerprint, without which no portable run starts; then the operations that the families reach."""
    lock = (ROOT / "requirements.lock").read_text()
    names = {"tensorflow": "tensorflow-cpu", "keras": "keras", "numpy": "numpy"}
    pins = dict(line.split()[0].split("==") for line in lock.splitlines() if "==" in line and line[0].isalpha())
    table: dict[str, Any] = {"operations": [], "fingerprint": {}, "libc": {}}
    table["versions"] = {name: pins[names[name]] for name in VERSIONS}
    write_atomically(PROVEN, readable_json(table))
    subprocess.run([COMMAND, "build"], check=True)
    fingerprint, in_image = (fingerprint_in(runtime) for runtime in ("venv", "docker"))
    table["fingerprint"] = fingerprint["operations"]
    by_libc = [name for name, digest in table["fingerprint"].items() if in_image["operations"][name] != digest]
    for found in (fingerprint, in_image):
        table["libc"][found["libc"]] = {name: found["operations"][name] for name in by_libc}
    write_atomically(PROVEN, readable_json(table))
    records = [trained(group) for group in GROUPS]
    guarantees = [record.environment.guarantee for record in records]
    reached = {name for found in guarantees if found is not None for name in found.operations or ()}
    reached |= set(fingerprint["reached"])
    proven = sorted(name for name in reached if not name.endswith(" float64") or name in EXACT_IN_FLOAT64)
    write_atomically(PROVEN, readable_json(table | {"operations": proven}))
    write_golden(FAMILIES / "golden.json", dict(zip(GROUPS, records, strict=True)))


def fingerprint_in(runtime: str) -> dict[str, Any]:
    """What the command finds, whatever the table says yet."""
    command = [COMMAND, "fingerprint", "--runtime", runtime, "--json"]
    return dict(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout))


def trained(group: str) -> Record:
    """The record of one group's training."""
    with tempfile.TemporaryDirectory() as runs:
        words = ["--runtime", "venv", "--profile", "portable", "--runs", runs, "--", group]
        subprocess.run([COMMAND, "train", str(FAMILIES / "train.py"), *words], check=True)
        (record,) = Path(runs).glob("*/record.json")
        return read_record(record)


if __name__ == "__main__":
    main()
