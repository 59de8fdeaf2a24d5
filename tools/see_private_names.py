"""Add to the table of private names how they look in the versions installed here: run it by that Python.

PYTHONPATH=src python tools/see_private_names.py
"""

import json
from pathlib import Path

from samebits.runner.compat.features import NAMES
from samebits.runner.compat.self_test import describe, installed_versions, library_of, read_seen

TABLE = Path(__file__).parents[1] / "src" / "samebits" / "runner" / "compat" / "seen.json"


def main() -> None:
    """Write the table with a row for each library."""
    seen = {library: dict(rows) for library, rows in (read_seen(TABLE) if TABLE.exists() else {}).items()}
    missing = [name for name in NAMES if describe(name) is None]
    for library, version in installed_versions().items():
        row = {name: look for name in NAMES if library_of(name) == library and (look := describe(name)) is not None}
        seen.setdefault(library, {})[version] = row
    TABLE.write_text(json.dumps(seen, indent=1, sort_keys=True) + "\n")
    print(*(f"not there: {name}" for name in missing), sep="\n")


if __name__ == "__main__":
    main()
