"""MLflow: a run in a tracking store, by MLflow's own client; a folder or a tracking server."""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.folder_manifest import read_folder_manifest
from samebits.core.printable import printable
from samebits.core.record import FAILED, FINISHED, Record
from samebits.core.run_dir import RunDir
from samebits.core.run_files import copy_plain, plain_sha256
from samebits.host.export import facts
from samebits.host.report.run_page import run_page

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_STORE, DEFAULT_EXPERIMENT = "mlruns", "samebits"
_STATES = {FINISHED: "FINISHED", FAILED: "FAILED"}
_BATCH = 100  # a server takes no more parameters or tags at once
_MAX_TEXT = 5000
_FILES = ("record.json", "ledger.jsonl", "log.txt", "code.jsonl", "data.jsonl", "inputs.lock", "README.txt")
_REPORT, _MODELS = "report.html", "models"
_NOTE = """\
Recorded by samebits. The artifact `{report}` shows it in a browser.

Verify it: `{command}`

{digests}
"""


def export_mlflow(run: RunDir, store: str | None, experiment: str) -> tuple[str, str]:
    """Write a run to a store; returns the store, as it may be shown, and the run's id there.

    Raises InputError for a failure.
    """
    record = facts.require_whole(run)
    store = store or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
    _prepare(store)
    with facts.library("mlflow"):
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    try:
        return shown_store(store), _write(MlflowClient(tracking_uri=store), store, run, record, experiment)
    except (MlflowException, OSError) as error:
        reason = _without_secrets(str(error), store).split("\n", 1)[0]
        raise InputError(f"MLflow does not take the run at {shown_store(store)}: {printable(reason)}") from error


def shown_store(store: str) -> str:
    """A store without user, password and query, for a message; a folder as it is."""
    scheme, mark, rest = store.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2].partition('?')[0]}" if mark else store


def _without_secrets(text: str, store: str) -> str:
    """A text of MLflow's without the store's user, password and query."""
    _, _, rest = store.partition("://")
    user, _, place = rest.rpartition("@")
    password, query = user.partition(":")[2], place.partition("?")[2]
    for part in (f"{user}@", f"?{query}"):
        text = text.replace(part, "") if part[1:] and part[:-1] else text
    for secret in filter(None, (user, password, unquote(password), query)):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "[hidden]", text)  # a short one is in many words
    return text


def _prepare(store: str) -> None:
    # MLflow asks for consent to write to a folder, which is what was asked for.
    if is_folder(store):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    # Neither usage statistics nor a look at a git repository, which may start programs.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # A server that does not answer is reported, and not asked for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")


def _write(client: "MlflowClient", store: str, run: RunDir, record: Record, experiment: str) -> str:
    number = _experiment(client, store, experiment)
    begun = client.create_run(number, start_time=_milliseconds(record, end=False), run_name=record.id)
    name = str(begun.info.run_id)
    try:
        _log_values(client, name, run, record)
        _log_files(client, name, run)
        _log_models(client, name, number, run, record)
    except BaseException:
        client.set_terminated(name, status="KILLED")
        raise
    state = _STATES.get(record.outcome.state, "KILLED")
    client.set_terminated(name, status=state, end_time=_milliseconds(record, end=True))
    return name


def _experiment(client: "MlflowClient", store: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name))
    if is_folder(store):
        _require_inside(
            Path(unquote(store.removeprefix("file://").removeprefix("file:"))), str(found.artifact_location)
        )
    return str(found.experiment_id)


def is_folder(store: str) -> bool:
    """Whether a store is a folder, and no server."""
    return "://" not in store or store.startswith("file:")


def _require_inside(store: Path, location: str) -> None:
    """Raise InputError for an experiment whose files would go elsewhere: a repository may bring a store."""
    path = unquote(location.removeprefix("file://"))
    if "://" in path or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(store)):
        raise InputError(
            f"the experiment in {store} keeps its files outside of it, at {location}; name another --experiment"
        )


def _milliseconds(record: Record, *, end: bool) -> int:
    return int((facts.ended(record) if end else facts.started(record)).timestamp() * 1000)


def _log_values(client: "MlflowClient", name: str, run: RunDir, record: Record) -> None:
    from mlflow.entities import Metric, Param, RunTag

    begun = _milliseconds(record, end=False)
    values = [Metric(item.name, item.value, begun, item.epoch) for item in facts.metrics(record)]
    params = [Param(key, value[:_MAX_TEXT]) for key, value in facts.parameters(record).items()]
    tags = [RunTag(key, value[:_MAX_TEXT]) for key, value in _tags(run, record)]
    for kind, items in (("metrics", values), ("params", params), ("tags", tags)):
        for part in _parts(items):
            client.log_batch(name, **{kind: part})


def _parts(items: Sequence[Any]) -> Iterator[list[Any]]:
    yield from (list(items[begin : begin + _BATCH]) for begin in range(0, len(items), _BATCH))


def _tags(run: RunDir, record: Record) -> Iterator[tuple[str, str]]:
    digests = facts.digests(record)
    yield from ((f"samebits.{name}", digest) for name, digest in digests.items())
    yield "samebits.run", printable(record.id)
    yield "samebits.covers", printable(record.covers)
    verdicts = facts.verdicts(run, record)
    yield "samebits.verdict", "; ".join(verdicts) or "not verified"
    yield from ((f"samebits.{name}", version) for name, version in facts.versions(record).items())
    if git := record.origin.git:
        yield "mlflow.source.git.commit", git.commit
        yield "samebits.git", str(git)
    yield "mlflow.source.name", printable(record.recipe.code.entry)
    yield "mlflow.source.type", "LOCAL"
    lines = "\n".join(f"- {name}: `{digest}`" for name, digest in digests.items())
    command = facts.verify_command(record)
    yield "mlflow.note.content", _NOTE.format(report=_REPORT, command=command, digests=lines)


def _log_files(client: "MlflowClient", name: str, run: RunDir) -> None:
    for path, entry in read_folder_manifest(run.manifest).items():
        if entry.digest is not None and (path in _FILES or path.startswith(("code/", "outputs/"))):
            with _copied(run, path, entry.digest) as copy:
                client.log_artifact(name, copy, os.path.dirname(path) or None)
    with _copied(run, run.record.name, None) as copy:
        client.log_artifact(name, copy)
    with tempfile.TemporaryDirectory(prefix="samebits-export-") as folder:
        page = Path(folder) / _REPORT
        page.write_bytes(run_page(run))
        client.log_artifact(name, os.fspath(page))


@contextmanager
def _copied(run: RunDir, path: str, digest: Digest | None) -> Iterator[str]:
    """A copy of a run's file, for a library that opens by name: since the audit, a link may have taken its place."""
    with tempfile.TemporaryDirectory(prefix="samebits-export-") as folder:
        copy = Path(folder) / os.path.basename(path)
        copy_plain(run.path / path, run.path, copy)
        if digest is not None and Digest(plain_sha256(copy)) != digest:
            raise InputError(f"{run.path / path} was changed while it was exported; export it again")
        yield os.fspath(copy)


def _log_models(client: "MlflowClient", name: str, experiment: str, run: RunDir, record: Record) -> None:
    """Each model file as an artifact of the run, and as a model of its own, where MLflow lists models."""
    for path, entry in read_folder_manifest(run.manifest).items():
        if entry.digest is None or not path.startswith(f"{_MODELS}/"):
            continue
        tags = {"samebits.sha256": entry.digest.hex, "samebits.result": str(record.result_digest)}
        stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(path).stem) or "model"
        model = client.create_logged_model(experiment, name=stem, source_run_id=name, tags=tags, model_type="keras")
        with _copied(run, path, entry.digest) as copy:
            client.log_artifact(name, copy, _MODELS)
            client.log_model_artifact(model.model_id, copy)
        client.finalize_logged_model(model.model_id, "READY")
