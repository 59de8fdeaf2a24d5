"""Sign statements about a run, and require them. Envelopes are DSSE, by `securesystemslib`, which in-toto uses.

In the run's folder, one file for each statement and key:

    signed.provenance.<8 digits of the key's id>.json
    signed.verdict.<8 digits of the key's id>.json       of a run that verified another one
    signed.sbom.<8 digits of the key's id>.json          the packages it was trained with
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samebits.core.errors import RecordError, shorten
from samebits.core.jsonio import Fields, canonical_json, parse_json, readable_json, write_atomically
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.core.run_files import plain_names, read_plain
from samebits.host.audit.file_audit import REMOVED
from samebits.host.audit.folder_audit import audit_ended
from samebits.host.console import log
from samebits.host.signing.keys import read_public_key, read_signer
from samebits.host.signing.statements import BILL, PROVENANCE, STATEMENT, SUMMARY, materials, provenance, summary

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_NAME = re.compile(r"signed\.(provenance|verdict|sbom)\.[0-9a-f]{8}\.json")
MAX_BYTES = 64 << 20

_WORDS = {PROVENANCE: "provenance", SUMMARY: "verdict", BILL: "sbom"}
_Statement = Callable[[RunDir, Record], dict[str, Any]]
_STATEMENTS: dict[str, _Statement] = {"provenance": provenance, "verdict": summary, "sbom": materials}


def sign(run: RunDir, key: Path) -> list[Path]:
    """Sign what a run's folder holds; returns the files written. Raises RecordError for a folder that was changed."""
    from securesystemslib.dsse import Envelope

    signer = read_signer(key)
    written = []
    for kind, statement in statements_of(run):
        envelope = Envelope(payload=statement, payload_type=PAYLOAD_TYPE, signatures={})
        envelope.sign(signer)
        path = run.path / f"signed.{kind}.{signer.public_key.keyid[:8]}.json"
        write_atomically(path, readable_json(envelope.to_dict()))
        written.append(path)
    return written


def statements_of(run: RunDir) -> list[tuple[str, bytes]]:
    """What is signed of a run, by kind; raises RecordError for a folder that was changed."""
    record = require_whole(run)
    return [(kind, canonical_json(_STATEMENTS[kind](run, record))) for kind in [*_kinds(run), *_also(record)]]


def require_signed(run: RunDir, key: Path) -> None:
    """Raise RecordError unless the holder of a key has signed this very run, and nothing was changed since."""
    public = read_public_key(key)
    record = require_whole(run)
    found = list(_envelopes(run))
    present = {item.kind for item in found if public.keyid in item.envelope.signatures}
    require_statements(run, record, present, lambda kind: _payload(run, kind, public, found))
    log(f"{run.path.name} is signed by {public.keyid}")


def require_statements(
    run: RunDir, record: Record, present: set[str], payload: Callable[[str], dict[str, Any]]
) -> None:
    """Raise RecordError unless the statements of one signer are on this very run; `payload` returns one that verified.

    A run that verified another one must have its verdict signed, too.
    """
    # A statement that nobody has to sign must be right all the same, where there is one.
    for kind in [*_kinds(run), *sorted(present - set(_kinds(run)))]:
        _require_statement(run, _STATEMENTS[kind](run, record), payload(kind))


def signers(run: RunDir) -> list[str]:
    """The ids of the keys that claim to have signed a run; nothing is verified. Raises RecordError."""
    return sorted({keyid for item in _envelopes(run) for keyid in item.envelope.signatures})


def _kinds(run: RunDir) -> list[str]:
    return ["provenance", *(["verdict"] if run.verification.exists() else [])]


def _also(record: Record) -> list[str]:
    """What is signed, and need not be: before version 1.7 nobody did. A run that failed early observed no packages."""
    return [] if record.environment.system is None else ["sbom"]


def require_whole(run: RunDir) -> Record:
    """The final record of a run whose files are all as it says; checkpoints that are gone are not used."""
    record, audit = audit_ended(run, "only a run that has ended can be signed")
    gone = {change for change in audit.files.damages if change.kind == REMOVED}
    changed = [str(item) for item in audit.files.damages if item not in gone or not item.path.startswith("checkpoints")]
    if changed := changed + list(audit.problems):
        raise RecordError(f"{run.path}: {shorten(changed, 3)}; no signature covers that")
    return record


@dataclass(frozen=True, kw_only=True, slots=True)
class _Signed:
    name: str
    kind: str
    envelope: "Envelope"


def _envelopes(run: RunDir) -> Iterator[_Signed]:
    """The statements in a run's folder; raises RecordError for a file that is none."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import Error

    for name in sorted(plain_names(run.path)):
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        try:
            value = parse_json(read_plain(run.path / name, MAX_BYTES, run.path))
            yield _Signed(name=name, kind=match[1], envelope=Envelope.from_dict(value))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, Error) as error:
            raise RecordError(f"{run.path / name} is no signed statement; remove it") from error


def _payload(run: RunDir, kind: str, key: "SSlibKey", found: list[_Signed]) -> dict[str, Any]:
    """What the key has signed, once its signature was verified."""
    from securesystemslib.exceptions import VerificationError

    ours = [item for item in found if item.kind == kind and key.keyid in item.envelope.signatures]
    if not ours:
        others = sorted({name[:8] for item in found for name in item.envelope.signatures})
        by = f"it is signed by {shorten(others, 3)}" if others else "it is not signed"
        raise RecordError(f"{run.path}: no {kind} is signed by the key {key.keyid[:8]}; {by}")
    (signed,) = ours[:1]
    try:
        signed.envelope.verify([key], 1)
    except VerificationError as error:
        raise RecordError(f"{run.path / signed.name} was changed after it was signed") from error
    return parse_statement(run.path / signed.name, signed.envelope.payload_type, signed.envelope.payload)


def parse_statement(path: Path, payload_type: str, payload: bytes) -> dict[str, Any]:
    """The in-toto statement in a payload whose signature was verified; raises RecordError."""
    try:
        value = Fields(parse_json(payload)).rest()
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is no in-toto statement") from error
    if payload_type != PAYLOAD_TYPE or value.get("_type") != STATEMENT:
        raise RecordError(f"{path} is no in-toto statement")
    return value


def _require_statement(run: RunDir, wanted: dict[str, Any], signed: dict[str, Any]) -> None:
    """Raise RecordError unless a signed statement is on this folder as it is."""
    theirs, ours = _essence(signed), _essence(wanted)
    names = [name for name in ours if theirs.get(name) != ours[name]]
    if names:
        what = _WORDS[ours["predicateType"]]
        raise RecordError(f"{run.path}: the signed {what} is on another run: {shorten(names, 3)} differ")


def _essence(statement: dict[str, Any]) -> dict[str, Any]:
    """What binds a statement to a folder. All else follows from `record.json`; another version may say more of it."""
    try:
        subjects = {item["name"]: item["digest"]["sha256"] for item in statement["subject"]}
        predicate, kind = statement["predicate"], statement["predicateType"]
        if kind == BILL:
            names = {}
        elif kind == PROVENANCE:
            names = {"invocationId": predicate["runDetails"]["metadata"]["invocationId"]}
        else:
            names = {name: predicate[name] for name in ("resourceUri", "inputAttestations", "verificationResult")}
        return {"record.json": subjects["record.json"], **names, "predicateType": kind}
    except (KeyError, TypeError) as error:
        raise RecordError("the signed statement is not one of samebits") from error
