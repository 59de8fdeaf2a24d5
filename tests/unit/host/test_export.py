"""`samebits export` without its libraries, and what it says of a run; `test_exports` has what reads it."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import unquote

import pytest

from samebits.core.code_tree import hash_code
from samebits.core.errors import InputError
from samebits.core.origin import GitCommit
from samebits.core.record import Record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.host.export import croissant, facts, mlflow_store, model_card
from support.fake_runner import Played, played
from support.pages import HOSTILE, hostile
from support.records import with_result

__all__ = ["played"]

_LIBRARIES = {"rocrate": "rocrate", "mlflow": "mlflow", "model-card": "huggingface_hub", "croissant": "mlcroissant"}


@pytest.mark.parametrize(("form", "name"), _LIBRARIES.items())
def test_a_missing_library(played: Played, monkeypatch: pytest.MonkeyPatch, form: str, name: str) -> None:
    run = played.train()
    for module in (name, *(module for module in sys.modules if module.startswith(f"{name}."))):
        monkeypatch.setitem(sys.modules, module, None)
    before = sorted(Path().rglob("*"))
    done = played.call("export", form, run.path.name)
    assert done.status == 2
    assert done.complaint.startswith(f"this export needs the library {name}: ")
    assert done.complaint.endswith("install it with `pip install 'samebits[export]'`")
    assert sorted(Path().rglob("*")) == before


def test_files_have_names_that_no_code_has(played: Played) -> None:
    run = played.train()
    before = hash_code(RunConfig(script=Path("train.py"))).digest
    for suffix in (croissant.SUFFIX, model_card.SUFFIX):
        path = facts.default_path(run, suffix)
        assert path.name.startswith(f"{run.path.name}.samebits.")
        path.write_text("x")
    assert hash_code(RunConfig(script=Path("train.py"))).digest == before


def test_requests_that_cannot_be_met(played: Played) -> None:
    run = played.train()
    name = run.path.name
    for words, complaint in (
        (("pdf", name), "samebits exports rocrate, mlflow, model-card, croissant, not 'pdf'"),
        (("rocrate", name, "--to", "x"), "--to is not for rocrate; leave it out"),
        (("mlflow", name, "--license", "MIT"), "--license is not for mlflow; leave it out"),
        (("model-card", name, "-o", "train.py"), "train.py exists already; remove it, or name another one with -o"),
        (("croissant", name, "-o", "no/a"), f"there is no folder {Path('no').absolute()}; create it, or name another"),
    ):
        done = played.call("export", *words)
        assert (done.status, done.complaint.startswith(complaint)) == (2, True), done.err


@pytest.mark.parametrize("option", ["--author", "--license", "--url"])
def test_a_text_that_is_not_utf8(played: Played, option: str) -> None:
    run = played.train()
    done = played.call("export", "croissant", run.path.name, option, "A\udcff")
    assert (done.status, done.complaint) == (2, f"{option} is not UTF-8; write it in UTF-8")


def test_a_changed_run_is_refused(played: Played) -> None:
    run = played.train()
    (run.code / "train.py").chmod(0o644)
    (run.code / "train.py").write_text("changed\n")
    done = played.call("export", "rocrate", run.path.name)
    assert done.status == 2
    assert "code/train.py was changed" in done.complaint
    assert not (run.path / "ro-crate-metadata.json").exists()


def crate_of(run: RunDir) -> dict[str, dict[str, Any]]:
    value = json.loads((run.path / "ro-crate-metadata.json").read_text())
    return {entity["@id"]: entity for entity in value["@graph"]}


def test_a_crate(played: Played) -> None:
    run = played.train("--seed", "7")
    done = played.call("export", "rocrate", run.path.name, "--author", "A. Author")
    assert done.status == 0, done.err
    found, record = crate_of(run), run.read()
    action = found["#training"]
    assert action["instrument"] == {"@id": "code/train.py"}
    assert found["code/train.py"]["@type"] == ["File", "SoftwareSourceCode"]
    assert {"@id": "data.jsonl"} in action["object"]
    assert found["#parameter-seed"]["value"] == "7"
    assert action["agent"] == {"@id": "#author-0"}
    assert found["#digest-result"]["value"] == str(record.result_digest)
    assert found["#metric-0"]["value"] == repr(float.fromhex(next(iter(record.final_metrics.values()))))
    named = {name for name, entity in found.items() if "File" in entity["@type"]}
    assert {"record.json", "ledger.jsonl", "files.jsonl", "code/train.py", "log.txt"} - named <= {"log.txt"}
    # The crate changes nothing that the record covers, and a capsule carries it.
    assert played.call("audit", run.path.name).out.splitlines()[-1] == "as recorded"
    assert played.call("pack", run.path.name, "-o", "a.tar").status == 0
    assert played.call("unpack", "a.tar").status == 0
    assert Path("a/run/ro-crate-metadata.json").read_bytes() == (run.path / "ro-crate-metadata.json").read_bytes()


def test_a_crate_names_the_image(played: Played) -> None:
    from samebits.core.digest import Digest
    from samebits.host.export.ro_crate import crate_metadata

    run = played.train()
    record = run.read()
    image = replace(record.recipe.image, config=Digest("ab" * 32))
    record = replace(record, recipe=replace(record.recipe, image=image))
    found = {item["@id"]: item for item in crate_metadata(run, record, facts.Request())["@graph"]}
    assert found["#training"]["containerImage"] == {"@id": f"urn:sha256:{'ab' * 32}"}
    assert found[f"urn:sha256:{'ab' * 32}"]["sha256"] == "ab" * 32


def test_verdicts_are_of_just_this_run(played: Played) -> None:
    run, other = played.train(), played.train("--seed", "7")
    assert played.call("verify", run.path.name).status == 0
    assert [line.partition(",")[0] for line in facts.verdicts(run, run.read())] == ["identical at the level bitwise"]
    assert facts.verdicts(other, other.read()) == []


@pytest.mark.parametrize(
    ("store", "shown"),
    [
        ("mlruns", "mlruns"),
        ("me@work/mlruns", "me@work/mlruns"),
        ("https://me:p%40ss@example.org/ml", "https://example.org/ml"),
        ("https://me:p/ss@example.org", "https://example.org"),
        ("postgresql://example.org/db?user=me&password=other", "postgresql://example.org/db"),
    ],
)
def test_a_store_is_named_without_its_password(
    store: str, shown: str, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(tracking_uri: str) -> None:
        raise OSError(f"GET {tracking_uri} as me with p@ss failed")

    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=failing))
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", SimpleNamespace(MlflowException=OSError))
    run = played.train()
    done = played.call("export", "mlflow", run.path.name, "--to", store)
    assert done.status == 2
    assert f"MLflow does not take the run at {shown}: GET {shown}" in done.complaint
    if "://" in store:
        assert not [text for text in ("me:", "p@ss", "p%40ss", "p/ss") if text in done.err and text in unquote(store)]
    monkeypatch.setattr(sys.modules["mlflow"], "MlflowClient", lambda tracking_uri: tracking_uri)
    monkeypatch.setattr(mlflow_store, "_write", lambda *_: "1")
    assert played.call("export", "mlflow", run.path.name, "--to", store).out == f"store {shown}\nrun 1\n"


def test_metrics_are_exact(example: Record) -> None:
    def edit(result: dict[str, Any]) -> None:
        history = {"loss": [(0.1).hex(), "nan", "text"]}
        result["fits"] = [{"model": 0, "epochs": 3, "history": history}] * 2

    found = list(facts.metrics(with_result(example, edit)))
    assert [(item.name, item.epoch) for item in found] == [
        ("fit0.loss", 0),
        ("fit0.loss", 1),
        ("fit1.loss", 0),
        ("fit1.loss", 1),
    ]
    assert found[0].value == 0.1


def test_a_card_escapes_what_a_script_chose(example: Record, tmp_path: Path) -> None:
    git = GitCommit(commit="ab" * 20, changed=1, remote="https://example.org/a")
    record = hostile(replace(example, origin=replace(example.origin, git=git)))
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.record.write_text('{"seal": ""}')
    text = model_card._body(run, record, facts.Request(authors=(HOSTILE,)))
    # A block of code shows its lines as they are.
    shown = [line for line in text.splitlines() if not line.startswith("    ")]
    assert "<" not in "".join(shown).replace("\\<", "")
    assert "\x1b" not in text
    assert f"{'ab' * 20}, 1 file changed of https://example.org/a" in text


class _Client:
    """Keeps what it is given, as MLflow's does; its experiment's files lie at `location`."""

    def __init__(self, location: str) -> None:
        self.experiment = SimpleNamespace(experiment_id="1", artifact_location=location)
        self.logged: dict[str, bytes] = {}

    def get_experiment_by_name(self, _: str) -> object:
        return self.experiment

    def create_run(self, *_: object, **__: object) -> object:
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def log_artifact(self, _: str, path: str, folder: str | None = None) -> None:
        self.logged[f"{folder or '.'}/{Path(path).name}"] = Path(path).read_bytes()

    def set_terminated(self, *_: object, **__: object) -> None:
        pass


@pytest.mark.parametrize("location", ["/elsewhere/1", "file:///elsewhere/1", "http://elsewhere/1", "{store}/../1"])
def test_an_experiment_that_keeps_its_files_elsewhere(played: Played, tmp_path: Path, location: str) -> None:
    """A repository may bring the folder `mlruns`."""
    run, client = played.train(), _Client(location.format(store=tmp_path))
    with pytest.raises(InputError, match="keeps its files outside of it"):
        mlflow_store._write(cast(Any, client), str(tmp_path), run, run.read(), "samebits")
    assert client.logged == {}


def test_what_is_exported_is_what_was_recorded(played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow opens by name. What has taken a file's place since the audit is not exported."""
    monkeypatch.setattr(mlflow_store, "_log_values", lambda *_: None)
    monkeypatch.setattr(mlflow_store, "_log_models", lambda *_: None)
    run, client = played.train(), _Client(str(tmp_path / "1"))
    record = run.read()
    mlflow_store._write(cast(Any, client), str(tmp_path), run, record, "samebits")
    assert client.logged["code/train.py"] == (run.code / "train.py").read_bytes()
    assert "./record.json" in client.logged
    (tmp_path / "secret").write_text("secret")
    client.logged.clear()
    (run.code / "train.py").unlink()
    (run.code / "train.py").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="it is a link"):
        mlflow_store._write(cast(Any, client), str(tmp_path), run, record, "samebits")
    (run.code / "train.py").unlink()
    (run.code / "train.py").write_text("secret")
    with pytest.raises(InputError, match="was changed while it was exported"):
        mlflow_store._write(cast(Any, client), str(tmp_path), run, record, "samebits")
    assert b"secret" not in client.logged.values()
