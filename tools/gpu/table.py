"""Make the fingerprint's table of a GPU from a proof: `python -m tools.gpu.table proof.json`.

The table is `tools/gpu/fingerprints/NAME.json`: what the digests depend on, and the digests. It is refused for a dry
run, and for a proof in which the fingerprint did not repeat.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("fingerprints")


def main(argv: list[str] | None = None) -> int:
    """Write the table; 2 if the proof has none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proof", type=Path)
    parser.add_argument("--into", type=Path, default=FOLDER, metavar="FOLDER")
    options = parser.parse_args(argv)
    try:
        table = table_of(json.loads(options.proof.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"table: {options.proof} gives no table: {error}", file=sys.stderr)
        return 2
    options.into.mkdir(parents=True, exist_ok=True)
    path = options.into / f"{file_name(table['key'])}.json"
    path.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    print(path)
    return 0


def table_of(proof: dict[str, Any]) -> dict[str, Any]:
    """The key and the digests; raises ValueError for a proof without them."""
    step = proof["steps"]["fingerprint"]
    if proof["dry_run"]:
        raise ValueError("it is a dry run, on the CPU")
    if step["outcome"] != "done" or step["found"]["equal"] is not True or step["found"]["differ_in_one_process"]:
        raise ValueError("the fingerprint did not repeat, or its step was not done")
    return {"key": step["found"]["key"], "operations": step["found"]["operations"], "seen": proof["started"]}


def file_name(key: dict[str, Any]) -> str:
    """The GPU's name, its multiprocessors and the driver, as a file's name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", f"{key['model']} {key['multiprocessors']} {key['driver']}").lower()


if __name__ == "__main__":
    sys.exit(main())
