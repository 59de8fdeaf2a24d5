"""What is signed: in-toto statements about a run (SLSA provenance) and about a verification (a summary).

The subject of both is `record.json`, by its sha256. The record names `files.jsonl`, and that names every other file, so
that a signature covers the whole folder.
"""

from collections.abc import Iterator
from typing import Any

from samebits import __version__
from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError
from samebits.core.folder_manifest import read_folder_manifest
from samebits.core.jsonio import Fields
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.core.run_files import plain_sha256
from samebits.host.compare.verdict import EQUIVALENT, IDENTICAL
from samebits.host.image.sbom import recorded_bill
from samebits.host.runs.verification_file import read_verification

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
SUMMARY = "https://slsa.dev/verification_summary/v1"
BILL = "https://cyclonedx.org/bom"
_BUILD_TYPE = "urn:samebits:train:v1"
_BUILDER = "urn:samebits:launcher"
_VERIFIER = "urn:samebits:verify"
_FOLDERS = ("models/", "outputs/")
"""Where the files are that people hand on: each is a subject of its own."""


def file_digest(run: RunDir, name: str) -> str:
    """The sha256 of one file of a run, in hex; raises RecordError."""
    try:
        return plain_sha256(run.path / name, run.path)
    except OSError as error:
        raise RecordError(f"cannot read {run.path / name}: {error.strerror}") from error


def provenance(run: RunDir, record: Record) -> dict[str, Any]:
    """The statement on how a run came about; raises InputError for a run whose record does not name its files."""
    if record.files is None:
        raise InputError(f"the record of {record.id} names no list of its files, so a signature would not cover them")
    return {
        "_type": STATEMENT,
        "subject": list(_subjects(run, record)),
        "predicateType": PROVENANCE,
        "predicate": {
            "buildDefinition": {
                "buildType": _BUILD_TYPE,
                "externalParameters": {"recipe": record.recipe.to_dict(), "level": record.level},
                "resolvedDependencies": [
                    *(_resource(name, digest) for name, digest in _dependencies(record) if digest is not None),
                    *_repository(record),
                ],
            },
            "runDetails": {
                "builder": {"id": _BUILDER, "version": {"samebits": __version__}},
                "metadata": {"invocationId": record.id, "startedOn": _time(record)},
                "byproducts": [
                    _resource(name, Digest(file_digest(run, name))) for name in ("files.jsonl", "ledger.jsonl")
                ],
            },
        },
    }


def _subjects(run: RunDir, record: Record) -> Iterator[dict[str, Any]]:
    yield _resource("record.json", Digest(file_digest(run, "record.json")))
    if record.result_digest is not None:
        yield _resource("result", record.result_digest)
    for path, entry in read_folder_manifest(run.manifest).items():
        if entry.digest is not None and path.startswith(_FOLDERS):
            yield _resource(path, entry.digest)


def _dependencies(record: Record) -> Iterator[tuple[str, Digest | None]]:
    """What a run was made of, by the names of the recipe."""
    recipe, image = record.recipe, record.recipe.image
    yield from (("image", image.config), ("base", image.base), ("lock", image.lock), ("packages", image.packages))
    yield from (("samebits", image.source), ("code", recipe.code.tree), ("data", recipe.data))
    yield "inputs", recipe.inputs


def _repository(record: Record) -> Iterator[dict[str, Any]]:
    """The commit, if the code is just that of a commit, and the launcher that trained it compared the two.

    Runs with the code of another run have none. An early record of a resumed run holds one that nobody compared.
    """
    git, copied = record.origin.git, record.origin.resumes or record.origin.verifies
    if git is not None and not git.dirty and copied is None:
        uri = {} if git.remote is None or "://" not in git.remote else {"uri": f"git+{git.remote}@{git.commit}"}
        yield {"name": "git", **uri, "digest": {"gitCommit": git.commit}}


def _resource(name: str, digest: Digest) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": digest.hex}}


def _time(record: Record) -> str:
    """As RFC 3339 has it in UTC."""
    return record.started.replace("+00:00", "Z")


def summary(run: RunDir, record: Record) -> dict[str, Any]:
    """The statement on a verdict: of `run`, which verified another one, whose record is the subject.

    Raises RecordError where the verdict is not on these two runs.
    """
    found = read_verification(run.verification)
    verified, by = (Fields(found.values).optional_inner(name) for name in ("verified", "by"))
    named = record.origin.verifies
    if verified is None or by is None or named is None:
        raise RecordError(f"{run.verification} names no run that was trained for it; it cannot be signed")
    checksums = verified.get("seal", str), by.get("seal", str)
    if (found.verified, checksums[0], checksums[1]) != (named.id, named.checksum, _checksum(record)):
        raise RecordError(f"{run.verification} is a verdict on other runs; it cannot be signed")
    passed = found.verdict in (IDENTICAL, EQUIVALENT)
    arithmetic = record.environment.arithmetic
    return {
        "_type": STATEMENT,
        "subject": [
            _resource(f"record of {named.id}", Digest.parse(named.checksum)),
            _resource("record.json", Digest(file_digest(run, "record.json"))),
        ],
        "predicateType": SUMMARY,
        "predicate": {
            "verifier": {
                "id": _VERIFIER,
                "version": {"samebits": __version__, "fingerprint": "" if arithmetic is None else arithmetic.digest},
            },
            "timeVerified": _time(record),
            "resourceUri": f"urn:samebits:record:{named.checksum}",
            "policy": {"uri": f"urn:samebits:level:{found.level}"},
            "inputAttestations": [
                {"uri": run.verification.name, "digest": {"sha256": file_digest(run, run.verification.name)}}
            ],
            "verificationResult": "PASSED" if passed else "FAILED",
            "verifiedLevels": [f"SAMEBITS_{found.level.upper()}_{found.verdict.upper().replace(' ', '_')}"],
            "slsaVersion": "1.1",
        },
    }


def materials(run: RunDir, record: Record) -> dict[str, Any]:
    """The statement on the packages that a run was trained with: a bill of materials."""
    try:
        bill = recorded_bill(run, record)
    except (OSError, ValueError) as error:
        raise RecordError(f"cannot read the locks in {run.image}: {error}") from error
    subjects = [_resource("record.json", Digest(file_digest(run, "record.json")))]
    if (config := record.recipe.image.config) is not None:
        subjects.append(_resource("image", config))
    return {"_type": STATEMENT, "subject": subjects, "predicateType": BILL, "predicate": bill}


def _checksum(record: Record) -> str:
    return str(record.to_dict()["seal"])
