"""Golden results of the portable profile: the digests that every CPU must reach, and the CPUs that reached them.

The table lies beside its script: `golden.json` in `examples/families`.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebits.core.cpu_info import describe_cpu
from samebits.core.determinism_profile import PORTABLE
from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError, SamebitsError
from samebits.core.jsonio import Fields, differing_names, parse_json, readable_json, write_atomically
from samebits.core.record import Record
from samebits.core.result import Result
from samebits.core.run_config import RunConfig
from samebits.core.run_files import read_given
from samebits.host.console import log
from samebits.host.launch.train import train

GOLDEN_FORMAT = "samebits.golden"
GOLDEN_VERSION = "1.0"
TABLE = "golden.json"
GROUPS = ("layers", "optimizers", "losses", "applications")
"""The script's arguments; each group is one run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Golden:
    """A digest for each group and model, and the CPUs that reached all; `emulator` is None for a real CPU.

    `threads` has such rows for other numbers of threads than one. `attest` does not train them.
    """

    rows: dict[str, dict[str, str]]
    confirmed: list[dict[str, Any]]
    threads: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Golden":
        """Read a table; raises InputError if it is missing or of another format."""
        try:
            fields = Fields(parse_json(read_given(path, anywhere=True)))
            found = f"{fields.get('format', str)} {fields.get('version', str)}"
            rows, confirmed = _rows(fields.inner("rows")), fields.get("confirmed", list)
            others = fields.inner("threads") if "threads" in fields.names() else None
            threads = {number: _rows(others.inner(number)) for number in sorted(others.names())} if others else {}
        except OSError as error:
            raise InputError(f"cannot read the table {path}: {error.strerror}; name a folder with a {TABLE}") from error
        except (ValueError, RecordError) as error:
            raise InputError(f"{path} is not a table of golden results: {error}; name another folder") from error
        # A table of another version has other models, so every one of them would differ.
        if found != f"{GOLDEN_FORMAT} {GOLDEN_VERSION}":
            raise InputError(f"{path} is a table of {found}, and this samebits reads {GOLDEN_FORMAT} {GOLDEN_VERSION}")
        return cls(rows=rows, confirmed=confirmed, threads=threads)

    def write(self, path: Path) -> None:
        """Replace the table's file."""
        table: dict[str, Any] = {
            "format": GOLDEN_FORMAT,
            "version": GOLDEN_VERSION,
            "rows": self.rows,
            "confirmed": self.confirmed,
        }
        if self.threads:
            table["threads"] = self.threads
        write_atomically(path, readable_json(table))


def _rows(groups: Fields) -> dict[str, dict[str, str]]:
    return {group: groups.mapping(group, str) for group in sorted(groups.names())}


def models(result: Result | None) -> dict[str, str]:
    """The name of each model, and a digest of its tensors and metrics."""
    result = result or Result()
    # A model may be trained by several fits.
    histories = [
        [_json_history(fit.history) for fit in result.fits if fit.model == number]
        for number in range(len(result.models))
    ]
    return {
        model.name: str(Digest.of_json({"digest": model.digest, "histories": listed}))
        for model, listed in zip(result.models, histories, strict=True)
    }


def _json_history(history: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    return {name: list(values) for name, values in history.items()}


def write_golden(path: Path, records: Mapping[int, Mapping[str, Record]]) -> None:
    """Write a new table from one record for each number of threads and group, confirmed by this machine alone."""
    tables = {
        str(threads): {group: models(record.result) for group, record in groups.items()}
        for threads, groups in records.items()
    }
    Golden(rows=tables.pop("1"), confirmed=[describe_machine()], threads=tables).write(path)


def describe_machine() -> dict[str, Any]:
    """How the table describes a machine that confirmed it."""
    cpu = describe_cpu().to_dict()
    known = {name: cpu[name] for name in ("model", "vendor", "family_model_stepping", "instruction_set", "caches")}
    return known | {"emulator": None}


def attest(folder: Path, *, runtime: str, image: str | None) -> list[str]:
    """Train every group of a folder's table. Adds this CPU if all agree; returns the models that differ."""
    path = folder / TABLE
    golden = Golden.read(path)
    different: list[str] = []
    for group, wanted in golden.rows.items():
        found = _train_group(folder / "train.py", group, runtime=runtime, image=image)
        names = differing_names(wanted, found)
        log(f"{group}: {len(wanted) - len(names)} of {len(wanted)} models as in the table")
        different += [f"{group} {name}" for name in names]
    # A CPU that differs anywhere must not be listed as one that confirms the table.
    if different:
        log(f"{path} was not changed")
    elif describe_machine() in golden.confirmed:
        log(f"{path} lists this CPU already")
    else:
        golden.confirmed.append(describe_machine())
        golden.write(path)
        log(f"this CPU was added to {path}")
    return different


def _train_group(script: Path, group: str, *, runtime: str, image: str | None) -> dict[str, str]:
    with tempfile.TemporaryDirectory(prefix="samebits-attest-") as runs:
        spec = RunConfig(
            script=script, arguments=(group,), profile=PORTABLE, runs=Path(runs), runtime=runtime, image=image
        )
        run, status = train(spec)
        if status != 0:
            raise SamebitsError(f"the group {group} did not finish; see the lines above")
        return models(run.read().result)
