"""The differences between two runs: every kind, all of them, in both directions."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.core.digest import Digest
from samebits.core.file_tree import Tree, TreeEntry, hash_tree
from samebits.core.ledger import Ledger
from samebits.core.record import Record, read_record, write_record
from samebits.core.run_dir import RunDir
from samebits.host.compare.folding import folded
from samebits.host.compare.run_diff import (
    INPUTS,
    OUTPUTS,
    Difference,
    diff,
    last_line,
    print_difference,
    print_differences,
    readable,
)
from support.command import EXAMPLE, call
from support.records import result_of, with_environment, with_result


def make(folder: Path, record: Record, *, lines: int = 2, last: str = "x", code: str = "print(1)\n") -> RunDir:
    """A run with code, data and a ledger."""
    run = RunDir(folder)
    run.code.mkdir(parents=True)
    (run.code / "train.py").write_text(code)
    hash_tree(run.code, "code").write(run.code_manifest)
    (folder / "data").mkdir()
    (folder / "data" / "a.csv").write_text("1,2\n")
    hash_tree(folder / "data", "data").write(run.data_manifest)
    with Ledger(run.ledger, record.recipe.digest) as ledger:
        for number in range(lines):
            value = last if number == lines - 1 else "same"
            ledger.append({"event": "epoch", "fit": 0, "epoch": number, "tensors": {"trainable": value}})
    write_record(run.record, record)
    return run


@pytest.fixture
def record(example: Record) -> Record:
    return replace(
        example, recipe=replace(example.recipe, code=replace(example.recipe.code, tree=Digest.of_bytes(b"1")))
    )


def keys(differences: list[Difference]) -> list[tuple[str, str, str]]:
    return [(item.side, item.kind, item.name) for item in differences]


def test_a_run_and_itself(tmp_path: Path, record: Record) -> None:
    one, other = make(tmp_path / "a", record), make(tmp_path / "b", record)
    assert diff(one, one) == diff(one, other) == []


def _recipe(record: Record, **changes: Any) -> Record:
    return replace(record, recipe=replace(record.recipe, **changes))


ROWS: dict[str, tuple[Callable[[Record], Record], list[tuple[str, str, str]]]] = {
    "seed": (lambda record: _recipe(record, seed=77), [("inputs", "recipe", "seed")]),
    "threads and profile": (
        lambda record: _recipe(record, threads=1, profile="portable"),
        [("inputs", "recipe", "profile.name"), ("inputs", "recipe", "profile.threads")],
    ),
    "order": (lambda record: _recipe(record, shuffle="per-epoch"), [("inputs", "recipe", "shuffle")]),
    "package": (
        lambda record: with_environment(record, lambda value: value["distributions"].update(keras="9", new="1")),
        [("inputs", "package", "keras"), ("inputs", "package", "new")],
    ),
    "machine": (
        lambda record: with_environment(record, lambda value: value["cpu"].update(model="Another")),
        [("inputs", "machine", "cpu model")],
    ),
    "cores decide nothing": (
        lambda record: with_environment(record, lambda value: value["cpu"].update(cores=99)),
        [],
    ),
    "a feature that is off": (
        lambda record: with_environment(record, lambda value: value.update(features_off={"the trace of steps": "no"})),
        [("inputs", "feature off", "the trace of steps")],
    ),
    "setting": (
        lambda record: with_environment(record, lambda value: value["settings"][0].update(found="other")),
        [("inputs", "setting", "PYTHONHASHSEED")],
    ),
    "metric": (
        lambda record: with_result(
            record, lambda value: value["fits"][0]["history"]["loss"].__setitem__(1, "0x1.0p+0")
        ),
        [("outputs", "metric", "fit 0, epoch 1, loss")],
    ),
    "first file": (
        lambda record: with_result(record, lambda value: value["outputs"].pop(0)),
        [("outputs", "file", "größe.txt")],
    ),
    "file": (
        lambda record: with_result(record, lambda value: value["outputs"].pop()),
        [("outputs", "file", "model.keras")],
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_each_kind_is_named(tmp_path: Path, record: Record, row: str) -> None:
    change, expected = ROWS[row]
    one, other = make(tmp_path / "a", record), make(tmp_path / "b", change(record))
    found = diff(one, other)
    assert keys(found) == expected
    mirrored = diff(other, one)
    assert keys(mirrored) == expected
    assert [(item.before, item.after) for item in found] == [(item.after, item.before) for item in mirrored]


def test_a_tensor(tmp_path: Path, record: Record) -> None:
    def change(value: dict[str, Any]) -> None:
        for tensors in value["models"][0]["tensors"].values():
            tensors[0]["digest"] = "sha256:" + "0" * 64

    assert record.result is not None
    groups = record.result.models[0].tensors
    found = diff(make(tmp_path / "a", record), make(tmp_path / "b", with_result(record, change)))
    assert {item.kind for item in found} == {"tensor"}
    assert len(found) == len(groups), "one of each group, and all of them"


def test_a_metrics_distance(tmp_path: Path, record: Record) -> None:
    other = ROWS["metric"][0](record)
    (found,) = diff(make(tmp_path / "a", record), make(tmp_path / "b", other))
    assert (found.before, found.after) == ("0x1.3c083126e978dp+0", "0x1.0p+0")
    assert found.detail == "1 epochs differ, by 0.234 at most"


def test_a_metric_is_named_by_the_epoch_of_the_ledger(tmp_path: Path, record: Record) -> None:
    """`fit(initial_epoch=5)` begins at 5, as the line that differs says."""
    runs = make(tmp_path / "a", record, lines=0), make(tmp_path / "b", ROWS["metric"][0](record), lines=0)
    for run in runs:
        with Ledger(run.ledger, record.recipe.digest) as ledger:
            for epoch in (5, 6):
                metrics = {"loss": "0x1.0p+0", "val_loss": "0x1.0p+0"}
                ledger.append({"event": "epoch", "fit": 0, "epoch": epoch, "metrics": metrics})
    assert keys(diff(*runs)) == [("outputs", "metric", "fit 0, epoch 6, loss")]


def test_code_line_by_line_and_data_file_by_file(tmp_path: Path, record: Record) -> None:
    one = make(tmp_path / "a", record)
    changed = _recipe(record, code=replace(record.recipe.code, tree=Digest.of_bytes(b"2")), data=Digest.of_bytes(b"3"))
    other = make(tmp_path / "b", changed, code="print(2)\nprint(3)\n")
    (tmp_path / "b" / "data" / "b.csv").write_text("")
    (tmp_path / "b" / "data" / "a.csv").write_text("1,3\n")
    hash_tree(tmp_path / "b" / "data", "data").write(other.data_manifest)
    found = [item for item in diff(one, other) if item.kind in {"code", "data"}]
    assert keys(found) == [("inputs", "code", "train.py"), ("inputs", "data", "a.csv"), ("inputs", "data", "b.csv")]
    assert found[0].detail.splitlines()[2:] == ["@@ -1 +1,2 @@", "-print(1)", "+print(2)", "+print(3)"]
    assert found[2].before is None


def test_where_ledgers_part(tmp_path: Path, record: Record) -> None:
    """The first epoch, whatever comes after; a ledger that ends early diverges there."""
    one = make(tmp_path / "a", record, lines=9)
    assert keys(diff(one, make(tmp_path / "b", record, lines=9, last="y"))) == [
        ("outputs", "ledger", "fit 0, epoch 8, tensors.trainable")
    ]
    short = diff(one, make(tmp_path / "c", record, lines=4, last="same"))
    assert [(item.name, item.after) for item in short] == [("fit 0, epoch 4", None)]
    (tmp_path / "a" / "ledger.jsonl").write_text("torn")
    done = call("diff", str(tmp_path / "a"), str(tmp_path / "b"), folder=tmp_path)
    assert "ledger.jsonl was changed" in done.complaint


_FEW = st.sampled_from(["1", "2", "3"])
_RUNS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1),
        "arguments": st.lists(_FEW, max_size=2).map(tuple),
        "packages": st.dictionaries(_FEW, _FEW),
        "loss": st.lists(st.sampled_from(["0x1.0p+0", "nan", "word"]), max_size=3),
        "tensors": st.dictionaries(_FEW, st.sampled_from("ab"), max_size=2),
        "outputs": st.dictionaries(_FEW, _FEW, max_size=2),
        "data": st.dictionaries(_FEW, _FEW, max_size=2),
        "ledger": st.lists(st.dictionaries(_FEW, _FEW), max_size=3),
    }
)


def _drawn(folder: Path, record: Record, values: dict[str, Any]) -> RunDir:
    """A run whose parts were drawn; equal parts are equal bytes."""
    folder.mkdir()
    data = Tree(
        entries=tuple(
            TreeEntry(path=name, digest=Digest.of_bytes(text.encode())) for name, text in sorted(values["data"].items())
        )
    )
    tensors = [
        {"path": name, "dtype": "float32", "shape": [1], "digest": str(Digest.of_bytes(text.encode()))}
        for name, text in sorted(values["tensors"].items())
    ]
    history = {"loss": values["loss"]} if values["loss"] else {}
    result = {
        "models": [{"name": "m", "how": "fit", "digest": "", "tensors": {"trainable": tensors}}],
        "fits": [{"model": 0, "epochs": len(values["loss"]), "history": history}],
        "outputs": [{"path": name, "digest": text, "by": "bytes"} for name, text in sorted(values["outputs"].items())],
    }
    code = replace(record.recipe.code, arguments=values["arguments"])
    system = record.environment.system
    assert system is not None
    changed = replace(
        record,
        recipe=replace(record.recipe, seed=values["seed"], code=code, data=data.digest),
        environment=replace(record.environment, system=replace(system, distributions=values["packages"])),
        result=result_of(result),
    )
    run = RunDir(folder)
    data.write(run.data_manifest)
    with Ledger(run.ledger, changed.recipe.digest) as ledger:
        for number, groups in enumerate(values["ledger"]):
            ledger.append({"event": "epoch", "fit": 0, "epoch": number, "tensors": groups})
    write_record(run.record, changed)
    return run


@settings(deadline=None, max_examples=80)
@given(one=_RUNS, other=_RUNS)
def test_a_run_and_itself_and_the_other_way_round(one: dict[str, Any], other: dict[str, Any]) -> None:
    """`diff(a, a)` is empty, only equal runs have none, and `diff(b, a)` is `diff(a, b)` with its sides exchanged."""
    record = read_record(EXAMPLE)
    with tempfile.TemporaryDirectory() as folder:
        runs = [_drawn(Path(folder, name), record, values) for name, values in (("a", one), ("b", other), ("c", one))]
        assert diff(runs[0], runs[0]) == diff(runs[0], runs[2]) == []
        forth, back = diff(runs[0], runs[1]), diff(runs[1], runs[0])
    assert bool(forth) == (one != other)
    mirrored = [replace(item, before=item.after, after=item.before) for item in back]
    assert sorted(forth, key=repr) == sorted(mirrored, key=repr)


def test_long_ledgers(tmp_path: Path, record: Record) -> None:
    """A hundred thousand lines each, of two recipes, in a second."""
    other = _recipe(record, seed=5)
    runs = make(tmp_path / "a", record), make(tmp_path / "b", other)
    for run, chain in zip(runs, ("1", "2"), strict=True):
        with run.ledger.open("w") as file:
            file.writelines(
                f'{{"epoch":{number},"event":"epoch","fit":0,"previous":"sha256:{chain * 64}","version":"1.0"}}\n'
                for number in range(100_000)
            )
    started = time.process_time()  # other tests run beside it
    assert keys(diff(*runs)) == [("inputs", "recipe", "seed")]
    assert time.process_time() - started < 5


def test_the_command(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        shutil.copy(EXAMPLE, tmp_path / "runs" / name / "record.json")
    done = call("diff", "a", "b", folder=tmp_path)
    assert (done.status, done.out) == (0, "identical: 1 model, 2 files\n"), done.err
    record = read_record(EXAMPLE)
    write_record(tmp_path / "runs" / "b" / "record.json", _recipe(record, seed=9, ignore_outputs=("x",)))
    done = call("diff", "a", "b", folder=tmp_path)
    assert done.status == 1
    assert done.out.splitlines() == [
        f'inputs recipe ignore_outputs: {json.dumps(list(record.recipe.ignore_outputs))} -> ["x"]',
        f"inputs recipe seed: {record.recipe.seed} -> 9",
        "outputs none differ",
        "same result, different inputs: 1 model, 2 files",
    ]
    found = json.loads(call("diff", "a", "b", "--json", folder=tmp_path).out)
    assert [(item["name"], item["after"]) for item in found] == [("ignore_outputs", '["x"]'), ("seed", "9")]
    assert call("diff", "a", "none", folder=tmp_path).complaint.startswith("there is no run none in runs")


def test_what_scripts_set_is_compared(tmp_path: Path, record: Record) -> None:
    """Two runs whose scripts sized their thread pools otherwise differ in an input."""

    def threads(number: str) -> Record:
        made = [{"path": "train.py", "line": 1, "name": "TF_NUM_INTRAOP_THREADS", "value": number}]
        return with_environment(record, lambda environment: environment.update(script_settings=made))

    found = diff(make(tmp_path / "a", threads("2")), make(tmp_path / "b", threads("4")))
    assert keys(found) == [("inputs", "setting", "TF_NUM_INTRAOP_THREADS, set by the script")]


def test_a_number_that_no_float_holds_is_shown_as_it_is() -> None:
    """A foreign record may hold one."""
    assert readable("0x1p+99999") == "0x1p+99999"
    assert (readable("0x1p+1"), readable(None)) == ("2", "nothing")


def test_a_long_detail_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    detail = "\n".join(f"+{number}" for number in range(1500))
    item = Difference(side=INPUTS, kind="code", name="a.csv", before=None, after="x", detail=detail)
    print_difference(item)
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines), lines[-2:]) == (22, ["    +19", "    … 1480 more lines"])
    assert item.to_dict()["detail"] == detail
    ledger = Difference(side=OUTPUTS, kind="ledger", name="fit 0, epoch 1, loss", before="1", after="2")
    print_differences([item, ledger], "1 model")
    assert capsys.readouterr().out.startswith("outputs ledger fit 0, epoch 1, loss: 1 -> 2\ninputs code a.csv: ")


def test_the_last_line() -> None:
    assert last_line(set(), "1 model") == "identical: 1 model"
    assert last_line({INPUTS}, "1 model") == "same result, different inputs: 1 model"
    assert last_line({INPUTS}, "nothing") == "different inputs, and no result"
    assert last_line({OUTPUTS}, "1 model") == last_line({INPUTS, OUTPUTS}, "1 model") == "different"


def test_a_terminal_shows_one_line_for_many_operations() -> None:
    def differing(kind: str, name: str) -> Difference:
        return Difference(side=INPUTS, kind=kind, name=name, before="a", after="b")

    ends = differing("machine", "cpu model"), differing("machine", "libc")
    few = [ends[0], *(differing("operation", str(number)) for number in range(3)), ends[1]]
    assert folded(few) == few
    shown = folded([ends[0], *(differing("operation", str(number)) for number in range(44)), ends[1]])
    assert [item.name for item in shown] == ["cpu model", "0 and 43 more", "libc"]
    assert "diff --json" in shown[1].detail
