"""Others read what samebits writes: RO-Crate's validator, MLflow's server, Hugging Face, Croissant, OpenSSF."""

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from samebits.core.run_dir import RunDir
from samebits.host.export import facts
from support.command import COMMAND, ROOT, SCRIPTS, Project

pytestmark = pytest.mark.slow

_TOOLS = ROOT / ".venv-export" / "bin"
_SHIM = ROOT / "tests" / "support" / "validate_crate.py"


@pytest.fixture(scope="module")
def trained(locked: None, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a run and its verification, and the tools that read it."""
    assert locked is None
    subprocess.run([ROOT / "tools" / "export.sh"], check=True, timeout=1200)
    folder = tmp_path_factory.mktemp("exported")
    shutil.copy(SCRIPTS / "fit.py", folder / "train.py")
    (folder / "data" / "more").mkdir(parents=True)
    shutil.copy(SCRIPTS / "numbers.csv", folder / "data" / "numbers.csv")
    (folder / "data" / "more" / "a b.txt").write_text("1\n")
    project = Project(folder)
    run = project.train().run
    assert call(folder, "-m", "samebits", "verify", run.name)
    return project


def call(folder: Path, *words: str, status: int = 0, **variables: str) -> str:
    """A program of the tools' environment; its output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **variables}
    own = words[0].startswith(("-", "/"))
    command = [str(_TOOLS / ("python" if own else words[0])), *(words if own else words[1:])]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def export(project: Project, form: str, *words: str) -> str:
    return call(project.folder, "-m", "samebits", "export", form, "last", *words)


def run_of(project: Project) -> RunDir:
    found = [RunDir(path.parent) for path in project.runs.glob("*/record.json")]
    (run,) = (run for run in found if not run.verification.exists())
    return run


def test_a_crate_is_accepted(trained: Project, tmp_path: Path) -> None:
    export(trained, "rocrate", "--author", "A. Author", "--license", "https://spdx.org/licenses/MIT")
    run = run_of(trained)
    options = (str(_SHIM), str(_TOOLS.parent / "ro-crate-context.json"), "-p", "process-run-crate-0.5")
    call(trained.folder, *options, str(run.path))
    report = call(trained.folder, "runcrate", "report", str(run.path))
    assert "instrument: code/train.py (['File', 'SoftwareSourceCode'])" in report
    assert "models/0-" in report
    # The validator is asked for something: a training without its script is no process run.
    broken = tmp_path / "crate"
    shutil.copytree(run.path, broken)
    path = broken / "ro-crate-metadata.json"
    value = json.loads(path.read_text())
    for entity in value["@graph"]:
        entity.pop("instrument", None)
    path.write_text(json.dumps(value))
    call(trained.folder, *options, str(broken), status=1)


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """A real tracking server with a database."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    words = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    command = [str(_TOOLS / "mlflow"), "server", *words, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PATH": f"{_TOOLS}:{os.environ['PATH']}",
    }
    with (
        open(folder / "log", "wb") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, process_group=0) as process,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, 15)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(1)
    pytest.fail(log.read_text())


def get(base: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    request = urllib.request.Request(f"{base}/{path}", headers={"Content-Type": "application/json"})
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(request, data, timeout=60) as answer:
        return json.load(answer)


def test_a_tracking_server_shows_a_run(trained: Project, tmp_path: Path) -> None:
    run = run_of(trained)
    record = run.read()
    with server(tmp_path) as base:
        printed = export(trained, "mlflow", "--to", base, "--experiment", "digits")
        name = printed.splitlines()[-1].removeprefix("run ")
        found = get(base, f"api/2.0/mlflow/runs/get?run_id={name}")["run"]
        params = {item["key"]: item["value"] for item in found["data"]["params"]}
        assert params == facts.parameters(record)
        tags = {item["key"]: item["value"] for item in found["data"]["tags"]}
        assert tags["samebits.result"] == str(record.result_digest)
        assert tags["samebits.verdict"].startswith("identical at the level bitwise")
        assert "report.html" in tags["mlflow.note.content"]
        assert found["info"]["status"] == "FINISHED"
        for metric in {item.name for item in facts.metrics(record)}:
            path = f"api/2.0/mlflow/metrics/get-history?run_id={name}&metric_key={metric}"
            history = [(item["step"], item["value"]) for item in get(base, path)["metrics"]]
            assert history == [(item.epoch, item.value) for item in facts.metrics(record) if item.name == metric]
        files = get(base, f"api/2.0/mlflow/artifacts/list?run_id={name}")["files"]
        assert {"report.html", "record.json", "ledger.jsonl", "models", "code"} <= {item["path"] for item in files}
        with urllib.request.urlopen(f"{base}/get-artifact?path=report.html&run_uuid={name}") as page:
            assert record.id.encode() in page.read()
        experiment = found["info"]["experiment_id"]
        models = get(base, "api/2.0/mlflow/logged-models/search", {"experiment_ids": [experiment]})["models"]
        (model,) = run.models.iterdir()
        kept = [path.read_bytes() for path in (tmp_path / "files").rglob(model.name)]
        assert kept == [model.read_bytes()] * 2, "of the run, and of the model"
        assert len(models) == 1
        assert get(base, "ajax-api/2.0/mlflow/runs/search", {"experiment_ids": [experiment]})["runs"]


def test_a_folder_as_a_store(trained: Project) -> None:
    name = export(trained, "mlflow").splitlines()[-1].removeprefix("run ")
    (folder,) = trained.folder.glob(f"mlruns/*/{name}")
    assert (folder / "params" / "seed").read_text() == facts.parameters(run_of(trained).read())["seed"]
    assert (folder / "artifacts" / "report.html").is_file()


def test_a_server_that_is_not_there(trained: Project) -> None:
    call(trained.folder, "-m", "samebits", "export", "mlflow", "last", "--to", "http://127.0.0.1:9", status=2)


def test_a_model_card_is_read(trained: Project) -> None:
    export(trained, "model-card", "-o", "card.md", "--license", "apache-2.0")
    read = "import json, huggingface_hub as h; print(json.dumps(h.ModelCard.load('card.md').data.to_dict()))"
    values = json.loads(call(trained.folder, "-c", read))
    assert values["samebits"] == facts.digests(run_of(trained).read())
    assert (values["library_name"], values["license"]) == ("keras", "apache-2.0")


def test_croissant_is_accepted(trained: Project) -> None:
    words = ("--license", "https://spdx.org/licenses/CC0-1.0", "--author", "A. Author")
    export(trained, "croissant", "-o", "croissant.json", *words)
    call(trained.folder, "mlcroissant", "validate", "--jsonld", "croissant.json")
    value = json.loads((trained.folder / "croissant.json").read_text())
    assert [item["contentUrl"] for item in value["distribution"]] == ["data/more/a%20b.txt", "data/numbers.csv"]
    del value["distribution"][0]["sha256"]
    (trained.folder / "broken.json").write_text(json.dumps(value))
    call(trained.folder, "mlcroissant", "validate", "--jsonld", "broken.json", status=1)


def test_openssf_verifies_the_models(trained: Project) -> None:
    folder, run = trained.folder, run_of(trained)
    call(folder, "-m", "samebits", "key", "new", "--ecdsa", "-o", "samebits.key")
    call(folder, "-m", "samebits", "sign", "last", "--key", "samebits.key", "--model")
    call(folder, "-m", "samebits", "audit", "last", "--require-signed", "samebits.key.pub")
    (signature,) = run.path.glob("signed.models.*.sig")
    words = ("model_signing", "verify", "key", str(run.models), "--signature", str(signature))
    call(folder, *words, "--public_key", "samebits.key.pub")
    (model,) = run.models.iterdir()
    kept = model.read_bytes()
    model.chmod(0o644)
    model.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    call(folder, *words, "--public_key", "samebits.key.pub", status=1)
    call(folder, "-m", "samebits", "sign", "last", "--key", "samebits.key", "--model", status=2)
    model.write_bytes(kept)
    # The packages are stated, too: TensorFlow is among them, with the digests that the lock allows.
    (path,) = run.path.glob("signed.sbom.*.json")
    bill = json.loads(base64.b64decode(json.loads(path.read_text())["payload"]))
    found = {item["name"]: item for item in bill["predicate"]["components"]}
    assert (bill["predicateType"], bill["predicate"]["bomFormat"]) == ("https://cyclonedx.org/bom", "CycloneDX")
    assert found["tensorflow-cpu"]["hashes"]


@pytest.mark.parametrize(
    ("schema", "name"), [("github-actions", "action.yml"), ("gitlab-ci", "templates/samebits.gitlab-ci.yml")]
)
def test_templates_for_ci_are_valid(trained: Project, schema: str, name: str) -> None:
    transform = ("--data-transform", "gitlab-ci") if schema == "gitlab-ci" else ()
    call(trained.folder, "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *transform, str(ROOT / name))


@pytest.mark.parametrize("service", ["github", "gitlab"])
def test_a_template_trains_and_compares(trained: Project, tmp_path: Path, service: str) -> None:
    """Its own shell script, with what the service would set."""
    expected = str(run_of(trained).read().result_digest)
    for digest, status in ((expected, 0), ("sha256:" + "0" * 64, 1)):
        done, outputs = _in_ci(trained, tmp_path, service, {"DATA": "data", "EXPECT": digest})
        assert done.returncode == status, done.stderr
        if service == "github":
            assert f"result={expected}" in outputs
    assert "not the expected" in done.stderr


def _in_ci(
    project: Project, tmp_path: Path, service: str, inputs: Mapping[str, str]
) -> tuple["subprocess.CompletedProcess[str]", str]:
    names = ("SCRIPT", "ARGUMENTS", "RUN", "DATA", "EXPECT", "RUNTIME", "TRUST")
    values = {**dict.fromkeys(names, ""), "SCRIPT": "train.py", "RUNTIME": "venv", **inputs}
    read = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))"
    path = ROOT / ("action.yml" if service == "github" else "templates/samebits.gitlab-ci.yml")
    template = json.loads(call(project.folder, "-c", read, str(path)))
    (tmp_path / "samebits" / "bin").mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (tmp_path / "samebits" / "bin" / "samebits").symlink_to(COMMAND[0])
    if service == "github":
        command = ["bash", "-e", "-c", template["runs"]["steps"][1]["run"]]
        files = {"GITHUB_OUTPUT": str(tmp_path / "outputs"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
        values |= {"RUNNER_TEMP": str(tmp_path), **files}
    else:
        command = ["sh", "-c", template[".samebits"]["script"][0]]
        values = {f"SAMEBITS_{name}": value for name, value in values.items()}
        values["PATH"] = f"{tmp_path}/samebits/bin:{os.environ['PATH']}"
    work = tmp_path / "work"
    shutil.copytree(project.folder, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns("runs", "mlruns", "*.json"))
    done = subprocess.run(
        command, cwd=work, env={**os.environ, **values}, capture_output=True, text=True, timeout=600, check=False
    )
    outputs = tmp_path / "outputs"
    return done, outputs.read_text() if outputs.exists() else ""
