"""Add the forms of private names in the installed versions to the table. Run it by the Python that has them.

PYTHONPATH=src python tools/see_private_names.py
"""

import json
from pathlib import Path

from samebits.runner.compat.features import NAMES
from samebits.runner.compat.self_test import form_of, installed_versions, library_of, read_known_forms

TABLE = Path(__file__).parents[1] / "src" / "samebits" / "runner" / "compat" / "seen.json"


def main() -> None:
    """Write the table with a row for each library."""
    known = {library: dict(rows) for library, rows in (read_known_forms(TABLE) if TABLE.exists() else {}).items()}
    missing = [name for name in NAMES if form_of(name) is None]
    for library, version in installed_versions().items():
        row = {name: form for name in NAMES if library_of(name) == library and (form := form_of(name)) is not None}
        known.setdefault(library, {})[version] = row
    TABLE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    print(*(f"not there: {name}" for name in missing), sep="\n")


if __name__ == "__main__":
    main()
