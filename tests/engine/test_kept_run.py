"""Scripts in real containers that forge: the launcher keeps the record, whatever they write."""

import json
from pathlib import Path

import pytest

from samebits.core.record import FINISHED, read_record
from samebits.core.result import Measured
from samebits.core.run_dir import RunDir
from samebits.host.compare.verdict import NOT_COMPARABLE, Tolerance, judge_runs
from support.command import Project, call

pytestmark = pytest.mark.usefixtures("engine")

_SEAL = """
import hashlib, json, os, pathlib
run = pathlib.Path(os.environ["SAMEBITS_OUTPUT"]).parent
def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()
def seal(record):
    record.pop("seal")
    record["seal"] = digest(canonical(record))
    (run / "record.json").unlink()
    (run / "record.json").write_text(json.dumps(record))
mine = json.loads((run / "record.json").read_text())
"""
_FORGE = (
    _SEAL
    + """
real = json.loads(pathlib.Path(os.environ["SAMEBITS_DATA"], "real.json").read_text())
last, lines = mine["recipe_digest"], []
for number, values in enumerate(real["lines"], 1):
    lines.append(canonical({**values, "line": number, "previous": last}))
    last = digest(lines[-1])
(run / "ledger.jsonl").write_bytes(b"".join(line + b"\\n" for line in lines))
for name in ("models/0-sequential.keras", "outputs/model.keras"):
    (run / name).write_bytes(b"nothing was trained")
for name in ("result", "result_digest", "coverage", "outcome", "resumable"):
    mine[name] = real["record"][name]
mine["ledger"] = {"lines": len(lines), "last": last}
seal(mine)
os._exit(0)
"""
)
_REWRITE = (
    _SEAL
    + """
import keras, numpy as np
x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)], name="m")
model.compile("sgd", "mse")
model.fit(x, y, epochs=2, verbose=0)
mine["id"], mine["origin"]["script"] = "another", "/elsewhere"
mine["recipe"]["seed"] = 99
mine["recipe_digest"] = digest(canonical(mine["recipe"]))
seal(mine)
for path in (run / "image").rglob("*.py"):
    path.unlink()
    path.write_text("planted = True")
for name in ("code.jsonl", "files.jsonl"):
    (run / name).write_text("{}")
"""
)


def test_a_forged_result_is_not_identical(in_docker: Project) -> None:
    done = in_docker.train()
    assert done.status == 0, done.err
    real = RunDir(in_docker.folder / done.run)
    lines = [json.loads(line) for line in real.ledger.read_text().splitlines()]
    forged = {"record": json.loads(real.record.read_bytes()), "lines": lines}
    (in_docker.data / "real.json").write_text(json.dumps(forged))
    in_docker.write(_FORGE)
    done = in_docker.train()
    records = [real.read(), read_record(in_docker.folder / done.run / "record.json")]
    assert records[0].measured == Measured(by="launcher"), "all of it is measured"
    assert records[0].result == records[1].result, "the forgery must be complete, or the test proves nothing"
    verdict = judge_runs(records[0], records[1], "bitwise", Tolerance())
    assert verdict.kind == NOT_COMPARABLE
    assert verdict.reasons == (
        "measured in one run, and only claimed in the other: model 0 (sequential), outputs/model.keras",
    )


@pytest.mark.slow
def test_what_a_script_rewrites_has_no_effect(in_docker: Project) -> None:
    in_docker.write(_REWRITE)
    done = in_docker.train()
    assert done.status == 0, done.err
    run = RunDir(in_docker.folder / done.run)
    record = run.read()
    assert record.outcome.state == FINISHED
    assert (record.id, record.recipe.seed) == (run.path.name, 0)
    assert record.origin.script == str(in_docker.script)
    assert [path for path in run.image.rglob("*.py") if "planted" in path.read_text()] == []
    audited = call("audit", str(run.path), folder=in_docker.folder)
    assert audited.out.endswith("as recorded\n"), audited.out
    assert not Path(run.staging).exists()
