"""`samebits audit`: everything in a run's folder that is not as its record says, by path."""

from dataclasses import dataclass
from typing import Any

from samebits.core.errors import InputError, RecordError, pluralize, shorten
from samebits.core.record import Record, read_record
from samebits.core.run_dir import RunDir
from samebits.host.audit.file_audit import CHANGED, FileAudit, audit_files
from samebits.host.audit.ledger_audit import check_ledger
from samebits.host.console import print_line, print_table

_SHOWN = 5  # paths in a row of the table


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderAudit:
    """What was found: `damage` is why the record itself proves nothing; `problems` are those of the ledger."""

    run: RunDir
    files: FileAudit
    problems: tuple[str, ...] = ()
    damage: str | None = None

    @property
    def intact(self) -> bool:
        """Whether all that can be checked is as recorded; a user's own file beside it does not count."""
        return self.damage is None and not self.problems and not self.files.damages

    def to_dict(self) -> dict[str, Any]:
        """The form that `--json` prints."""
        return {
            "folder": str(self.run.path),
            "intact": self.intact,
            "record": self.damage,
            "ledger": list(self.problems),
            "files": [{"path": change.path, "change": change.kind} for change in self.files.changes],
            "unchecked": list(self.files.unchecked),
        }


def audit_folder(run: RunDir) -> FolderAudit:
    """Check record, ledger and every other file. A record that cannot be read is part of the answer."""
    try:
        record = last_record(run, run.read())
    except RecordError as error:
        return FolderAudit(run=run, files=FileAudit(files=0), damage=str(error))
    files = audit_files(run, record)
    # A ledger that is no file any more is named already, and is not opened.
    gone = any(change.path == run.ledger.name and change.kind != CHANGED for change in files.changes)
    problems = () if gone else check_ledger(run.ledger, record).problems
    return FolderAudit(run=run, files=files, problems=problems)


def audit_ended(run: RunDir, only: str) -> tuple[Record, FolderAudit]:
    """The final record of a run, and the audit of its folder.

    Raises RecordError where it cannot be read, and InputError, which ends with `only`, where it is not final.
    """
    audit = audit_folder(run)
    if audit.damage is not None:
        raise RecordError(audit.damage)
    record = run.read()
    if not record.finalized or run.late_records():
        raise InputError(f"the run {record.id} has no final record; {only}")
    return record, audit


def last_record(run: RunDir, record: Record) -> Record:
    """The record that names the files as they are: a late one, if the run continued after it was declared ended."""
    late = run.late_records()
    return read_record(late[-1]) if late else record


def print_audit(audit: FolderAudit) -> None:
    """Print an audit on stdout; the last line is the conclusion."""
    rows = [] if audit.damage is None else [["record.json", audit.damage]]
    rows += [[change.path, change.kind] for change in audit.files.changes]
    rows += [["ledger.jsonl", problem] for problem in audit.problems]
    if audit.files.unchecked:
        rows.append(["not recorded", shorten(audit.files.unchecked, _SHOWN)])
    print_table([str(audit.run.path), pluralize(audit.files.files, "file")], rows)
    print_line("as recorded" if audit.intact else "changed")
