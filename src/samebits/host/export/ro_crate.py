"""RO-Crate: a run's folder described by the Process Run Crate profile 0.5, by the library `rocrate`."""

import mimetypes
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samebits.core.folder_manifest import read_folder_manifest
from samebits.core.jsonio import readable_json, write_atomically
from samebits.core.printable import printable
from samebits.core.record import FINISHED, Record
from samebits.core.run_dir import RunDir
from samebits.host.export import facts
from samebits.host.export.facts import Request

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

NAME = "ro-crate-metadata.json"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
_DOCKER_IMAGE = "https://w3id.org/ro/terms/workflow-run#DockerImage"
_COMPLETED, _FAILED = "http://schema.org/CompletedActionStatus", "http://schema.org/FailedActionStatus"
_RESULTS = ("models/", "outputs/")
_LEFT_OUT = ("checkpoints/", "tensors/")
"""What may be removed from a run."""
_SOFTWARE = {
    "Python": "https://www.python.org/",
    "TensorFlow": "https://www.tensorflow.org/",
    "Keras": "https://keras.io/",
    "NumPy": "https://numpy.org/",
}
_ABOUT = "A training that `samebits` recorded: the same recipe gives the same result, bit by bit. Verify it with `{}`."
_NO_LICENSE = "No license is stated."


def write_crate(run: RunDir, request: Request) -> Path:
    """Describe a run in its own folder, which becomes the root of a crate; returns the file that was written."""
    record = facts.require_whole(run)
    path = run.path / NAME
    write_atomically(path, readable_json(crate_metadata(run, record, request)))
    return path


def crate_metadata(run: RunDir, record: Record, request: Request) -> Any:
    """The content of `ro-crate-metadata.json`."""
    with facts.library("rocrate"):
        from rocrate.rocrate import ROCrate
    # The profile builds on version 1.1.
    crate = ROCrate(version="1.1")
    crate.metadata.extra_contexts.append(_CONTEXT)
    _describe_root(crate, record, request)
    script = f"code/{record.recipe.code.entry}"
    files = dict(_files(crate, run, script))
    action = crate.add_action(
        _with_software(crate, record, files[script]),
        identifier="#training",
        object=[*_objects(crate, record, files)],
        result=[*_named(files, _RESULTS), *_metrics(crate, record)],
        properties=_action(record),
    )
    action["environment"] = _environment(crate, record)
    if (image := _image(crate, record)) is not None:
        action["containerImage"] = image
    if request.authors:
        action["agent"] = crate.root_dataset["author"]
    crate.root_dataset["mentions"] = action
    return crate.metadata.generate()


def _add(crate: "ROCrate", identifier: str, **properties: Any) -> "Entity":
    from rocrate.model.contextentity import ContextEntity

    kind = properties.pop("kind")
    return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **properties}))


def _describe_root(crate: "ROCrate", record: Record, request: Request) -> None:
    crate.name = printable(f"Training run {record.id}")
    crate.description = _ABOUT.format(facts.verify_command(record))
    crate.datePublished = facts.ended(record)
    crate.license = _license(crate, request)
    profile = _add(crate, _PROFILE, kind="CreativeWork", name="Process Run Crate", version="0.5")
    crate.root_dataset["conformsTo"] = profile
    crate.root_dataset["identifier"] = [
        _value(crate, f"#digest-{name}", name, digest) for name, digest in facts.digests(record).items()
    ]
    if request.authors:
        people = [
            _add(crate, f"#author-{number}", kind="Person", name=name) for number, name in enumerate(request.authors)
        ]
        # The specification asks for a value where there is only one.
        crate.root_dataset["author"] = people if len(people) > 1 else people[0]


def _license(crate: "ROCrate", request: Request) -> "Entity | str":
    if request.license is None or not request.license.startswith(("https://", "http://")):
        return request.license or _NO_LICENSE
    return _add(crate, request.license, kind="CreativeWork", name=request.license.rpartition("/")[2])


def _value(crate: "ROCrate", identifier: str, name: str, value: Any) -> "Entity":
    return _add(crate, identifier, kind="PropertyValue", name=name, value=value)


def _files(crate: "ROCrate", run: RunDir, script: str) -> Iterator[tuple[str, "Entity"]]:
    """Every file of the run, with size and sha256, as the record's manifest has it; the record itself names that."""
    sizes = {"record.json": run.record.stat().st_size, "files.jsonl": run.manifest.stat().st_size}
    for name, size in sizes.items():
        yield name, _file(crate, name, size, None, "File")
    for path, entry in read_folder_manifest(run.manifest).items():
        if entry.digest is not None and path not in sizes and not path.startswith(_LEFT_OUT):
            kind = ["File", "SoftwareSourceCode"] if path == script else "File"
            yield path, _file(crate, path, entry.size or 0, entry.digest.hex, kind)


def _file(crate: "ROCrate", path: str, size: int, digest: str | None, kind: str | list[str]) -> "Entity":
    form = "application/jsonl" if path.endswith(".jsonl") else mimetypes.guess_type(path)[0]
    properties = {
        "@type": kind,
        "name": printable(path),
        "contentSize": str(size),
        "encodingFormat": form or "application/octet-stream",
        **({} if digest is None else {"sha256": digest}),
    }
    return crate.add_file(dest_path=path, properties=properties)


def _named(files: dict[str, "Entity"], folders: Iterable[str]) -> list["Entity"]:
    return [entity for path, entity in files.items() if path.startswith(tuple(folders))]


def _with_software(crate: "ROCrate", record: Record, script: "Entity") -> "Entity":
    """The script, which needs the software that was observed."""
    script["version"] = str(record.recipe.code.tree)
    script["programmingLanguage"] = "Python"
    if (git := record.origin.git) and git.remote:
        script["codeRepository"] = script["url"] = printable(git.remote)
    script["softwareRequirements"] = [
        _add(
            crate,
            f"{_SOFTWARE[name]}#{version}",
            kind="SoftwareApplication",
            name=name,
            url=_SOFTWARE[name],
            softwareVersion=version,
        )
        for name, version in facts.versions(record).items()
    ]
    return script


def _objects(crate: "ROCrate", record: Record, files: dict[str, "Entity"]) -> Iterator["Entity"]:
    """What went in: code, data by its manifest, files from the network by their lock, and what was chosen."""
    yield from _named(files, ("code/",))
    if record.recipe.data is not None:
        files["data.jsonl"]["description"] = "path, size and sha256 of each file of the data"
        yield files["data.jsonl"]
    if record.recipe.inputs is not None:
        files["inputs.lock"]["description"] = "path, size, sha256 and URL of each file from the network"
        yield files["inputs.lock"]
    for name, value in facts.parameters(record).items():
        if not name.startswith("env."):
            yield _value(crate, f"#parameter-{name}", name, value)


def _environment(crate: "ROCrate", record: Record) -> list["Entity"]:
    """The variables that the script and TensorFlow saw."""
    system = record.environment.system
    seen = {} if system is None else system.variables
    variables = sorted({**seen, **record.recipe.env}.items())
    return [
        _value(crate, f"#variable-{number}", printable(name), printable(value))
        for number, (name, value) in enumerate(variables)
    ]


def _metrics(crate: "ROCrate", record: Record) -> list["Entity"]:
    return [
        _value(crate, f"#metric-{number}", name, repr(value))
        for number, (name, value) in enumerate(facts.final_metrics(record).items())
    ]


def _image(crate: "ROCrate", record: Record) -> "Entity | None":
    """The image, by the digest of its configuration; it is in no registry."""
    config = record.recipe.image.config
    if config is None:
        return None
    return _add(
        crate,
        f"urn:sha256:{config.hex}",
        kind="ContainerImage",
        additionalType={"@id": _DOCKER_IMAGE},
        name="samebits",
        registry="localhost",
        sha256=config.hex,
    )


def _action(record: Record) -> dict[str, Any]:
    """The training itself."""
    finished = record.outcome.state == FINISHED
    error = {} if finished else {"error": printable(record.outcome.message or record.outcome.state)}
    return {
        "name": printable(f"Training of {record.recipe.code.entry}"),
        "description": f"Trained and recorded by samebits, at the level {printable(record.level)}.",
        "startTime": _time(facts.started(record)),
        "endTime": _time(facts.ended(record)),
        "actionStatus": _COMPLETED if finished else _FAILED,
        **error,
    }


def _time(moment: datetime) -> str:
    # With milliseconds, as the profile's pattern has it.
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
