"""The command line where nothing is trained: quick, and one line for what is wrong."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core.digest import Digest
from samebits.core.environment import Environment
from samebits.core.errors import InputError
from samebits.core.jsonio import readable_json
from samebits.core.ledger import Ledger, lock_alive
from samebits.core.record import RECORD_VERSION, RUNNING, Outcome, Record, write_record
from samebits.core.run_dir import RunDir
from samebits.core.timings import Timings
from samebits.host.runs.registry import find_run, read_runs
from support.command import COMMAND, EXAMPLE, Done
from support.machine import unprivileged

_ID = "20260801T101500Z-train-bba4ec6d"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """The committed record as a run in `runs/`, where `samebits` is called."""
    folder = RunDir(tmp_path / "runs" / _ID)
    folder.path.mkdir(parents=True)
    shutil.copy(EXAMPLE, folder.record)
    return folder


def _running(run: RunDir, record: Record, name: str) -> RunDir:
    """A run beside another one that has not finalized its record."""
    folder = RunDir(run.path.with_name(name))
    folder.path.mkdir()
    folder.ledger.touch()
    write_record(
        folder.record, replace(record, id=name, outcome=Outcome(state=RUNNING), result=None, timings=Timings())
    )
    return folder


def _lines(done: Done) -> list[str]:
    """The lines on stdout; how wide a column is depends on what else is in it."""
    return [" ".join(line.split()) for line in done.out.splitlines()]


def _seconds(*arguments: str, folder: Path, times: int = 5) -> float:
    """Of a call of ours."""
    return _least([*COMMAND, *arguments], folder, times)


def _least(command: list[str], folder: Path, times: int) -> float:
    """The least time that a call keeps a core busy: what it waits for are the other tests."""
    found = []
    for _ in range(times):
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        found.append(used.ru_utime + used.ru_stime)
    return min(found)


def _pace(folder: Path) -> float:
    """How many times slower this machine is than one that starts Python, with what argparse needs, in 0.04 s."""
    return max(1.0, _least([sys.executable, "-c", "import argparse, json, dataclasses, pathlib"], folder, 5) / 0.04)


def test_help_comes_at_once(tmp_path: Path) -> None:
    assert _seconds("--help", folder=tmp_path) <= 0.2 * _pace(tmp_path)


@pytest.mark.parametrize(
    ("module", "imported"), [("samebits.host.cli.parser", []), ("samebits.host.docker", ["docker"])]
)
def test_what_is_heavy_waits_until_it_is_needed(module: str, imported: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in ('docker', 'pynvml', 'rich') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{imported}\n"


_COMMANDS = [
    *("build", "train", "check", "resume", "verify", "preflight", "diff"),
    *("fingerprint", "attest", "rebuild", "archive-base", "list", "show"),
]


@pytest.mark.parametrize("command", [[], *([name] for name in _COMMANDS)])
def test_every_command_has_help(samebits: Callable[..., Done], command: list[str]) -> None:
    done = samebits(*command, "--help")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(" ".join(["usage: samebits", *command]))
    assert "--goal" not in done.out  # the former name of --level


def test_version(samebits: Callable[..., Done]) -> None:
    done = samebits("--version")
    assert (done.status, done.out) == (0, "samebits 0.1.0\n")
    module = subprocess.run([sys.executable, "-m", "samebits", "--version"], capture_output=True, text=True, check=True)
    assert module.stdout == done.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "the following arguments are required: COMMAND; see 'samebits --help'"),
        (["frobnicate"], "there is no command 'frobnicate'; see 'samebits --help'"),
        (["train"], "name a script, or a module with -m"),
        (["tain", "x.py"], "there is no command 'tain'; did you mean 'train'? see 'samebits --help'"),
        (
            ["train", "x.py", "--epochs", "5"],
            "unrecognized arguments: --epochs 5; the script's own arguments follow --: x.py -- --epochs 5",
        ),
        (["show"], "one of the arguments RUN --image is required; see 'samebits show --help'"),
        (["list", "--all"], "unrecognized arguments: --all; see 'samebits --help'"),
        (["train", "x.py", "--seed", "x"], "argument --seed: invalid int value: 'x'; see 'samebits train --help'"),
        (["train", "x.py", "--level", "x"], "level must be one of bitwise, metrics, documented, not 'x'"),
        (["train", "x.py", "--goal", "x"], "level must be one of bitwise, metrics, documented, not 'x'"),
        (
            ["train", "x.py", "--goal", "metrics", "--level", "metrics"],
            "argument --level: not allowed with argument --goal; see 'samebits train --help'",
        ),
        (["list"], "there is no folder runs; `samebits train` creates it, or name another with --runs"),
        (["list", "--runs", "a/b"], "there is no folder a/b; `samebits train` creates it, or name another with --runs"),
        (["list", "--json"], "there is no folder runs; `samebits train` creates it, or name another with --runs"),
        (
            ["list", "--", "x"],
            "only `samebits train`, `sweep`, `check` and `fetch` take arguments after --; remove them\n",
        ),
        (
            ["show", "x", "--"],
            "only `samebits train`, `sweep`, `check` and `fetch` take arguments after --; remove them\n",
        ),
        (["show", "x"], "there is no run x in runs; `samebits list` shows all runs"),
        (["resume"], "the following arguments are required: RUN; see 'samebits resume --help'"),
        (["resume", "x"], "there is no run x in runs; `samebits list` shows all runs"),
        (["train", "x.py", "--keep", "x"], "keep must be all, last, none or every:N, not 'x'"),
        (["verify", "x", "--segments", "--jobs", "0"], "there is no run x in runs; `samebits list` shows"),
    ],
)
def test_an_error_is_one_line(samebits: Callable[..., Done], arguments: list[str], complaint: str) -> None:
    done = samebits(*arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert f"{done.complaint}\n".startswith(complaint)


_COLUMNS = ["run", "outcome", "seconds", "seed", "recipe", "result", "script", "arguments", "metrics", "note"]


def test_list(samebits: Callable[..., Done], run: RunDir, example: Record) -> None:
    dead, alive = (_running(run, example, f"20260802T000000Z-{name}") for name in ("dead", "live"))
    (run.path.parent / "being-prepared").mkdir()
    with open(lock_alive(alive.ledger), "rb"):
        done = samebits("list")
    assert (done.status, done.err) == (0, "")
    assert [line.split() for line in done.out.splitlines()] == [
        _COLUMNS,
        [
            *(_ID, "finished", "14.1", "7", "bba4ec6d", example.to_dict()["result_digest"][7:15]),
            *("train.py", "--epochs", "3", "--note", "'grün'"),
            *("accuracy", "0.8125,", "loss", "0.70125,", "val_accuracy", "0.875,", "val_loss", "0.4375"),
        ],
        [dead.path.name, "interrupted", "7", "bba4ec6d", "train.py", "--epochs", "3", "--note", "'grün'"],
        [alive.path.name, "running", "7", "bba4ec6d", "train.py", "--epochs", "3", "--note", "'grün'"],
    ]


def test_list_as_json(samebits: Callable[..., Done], run: RunDir, example: Record) -> None:
    dead = _running(run, example, "20260802T000000Z-dead")
    first, second = json.loads(samebits("list", "--json").out)
    assert first == {
        "id": _ID,
        "folder": f"runs/{_ID}",
        "started": "2026-08-01T10:15:00+00:00",
        "outcome": "finished",
        "message": None,
        "seconds": 14.125,
        "goal": "bitwise",
        "seed": 7,
        "recipe": str(example.recipe.digest),
        "result": str(example.result_digest),
        "late": [],
        "resumes": None,
        "verifies": None,
        "script": "train.py",
        "arguments": ["--epochs", "3", "--note", "grün"],
        "metrics": {"accuracy": 0.8125, "loss": 0.70125, "val_accuracy": 0.875, "val_loss": 0.4375},
    }
    assert (second["folder"], second["outcome"]) == (f"runs/{dead.path.name}", "interrupted")
    assert (second["seconds"], second["result"]) == (None, None)
    assert second["message"] == "the run ended without finalizing its record (killed, or power was lost)"


def test_list_of_nothing(samebits: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert samebits("list").out.split() == _COLUMNS
    assert samebits("list", "--json").out == "[]\n"


def test_a_record_that_cannot_be_read_does_not_hide_the_others(samebits: Callable[..., Done], run: RunDir) -> None:
    broken = RunDir(run.path.with_name("broken"))
    broken.path.mkdir()
    broken.record.write_bytes(b'{"format": ')
    message = "runs/broken/record.json is not JSON: it ends too early"
    done = samebits("list")
    assert done.status == 0
    assert [line.split()[0] for line in _lines(done)] == ["run", _ID]
    assert done.complaint == message
    done = samebits("show", "broken")
    assert (done.status, done.out) == (2, "")
    assert done.complaint == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            (b'"seed": 7', b'"seed": 8'),
            "the checksum does not match: the record was changed after it was written",
        ),
        ((b'"version": "1.0"', b'"version": "0.9"'), "there is no record version 0.9; the first is 1.0"),
    ],
)
def test_show_refuses_what_does_not_agree_with_itself(
    samebits: Callable[..., Done], run: RunDir, change: tuple[bytes, bytes], message: str
) -> None:
    run.record.chmod(0o644)
    run.record.write_bytes(EXAMPLE.read_bytes().replace(*change))
    for options in ([], ["--json"]):
        done = samebits("show", _ID, *options)
        assert (done.status, done.out) == (2, "")
        assert done.complaint == f"runs/{_ID}/record.json: {message}"


def test_list_does_not_check_seals(samebits: Callable[..., Done], run: RunDir) -> None:
    run.record.chmod(0o644)
    run.record.write_bytes(EXAMPLE.read_bytes().replace(b'"seed": 7', b'"seed": 8'))
    done = samebits("list")
    assert (done.status, done.err) == (0, "")
    assert _lines(done)[1].split()[:4] == [_ID, "finished", "14.1", "8"]


@pytest.mark.parametrize("name", [_ID, "20260801", _ID[:-1], f"runs/{_ID}", f"runs/../runs/{_ID}/"])
def test_show_by_any_of_its_names(samebits: Callable[..., Done], run: RunDir, name: str) -> None:
    (run.path.parent / "20260802T000000Z-being-prepared").mkdir()
    done = samebits("show", name)
    assert done.status == 2  # there is no ledger beside it
    assert _lines(done)[0] == f"run {_ID}"
    done = samebits("show", name, "--json")
    assert (done.status, done.err) == (0, "")
    assert done.out == EXAMPLE.read_text("utf-8")


def test_show_as_json_keeps_what_only_a_newer_version_knows(samebits: Callable[..., Done], run: RunDir) -> None:
    value = json.loads(EXAMPLE.read_bytes()) | {"version": "1.99", "weather": "fine"}
    del value["seal"]
    value["seal"] = str(Digest.of_json(value))
    run.record.chmod(0o644)
    run.record.write_bytes(readable_json(value))
    done = samebits("show", _ID, "--json")
    assert (done.status, done.out) == (0, run.record.read_text("utf-8"))
    assert done.complaint == f"record version 1.99 is newer than {RECORD_VERSION}; new fields in it are not shown"


def test_show_as_json_of_a_run_that_died(samebits: Callable[..., Done], run: RunDir, example: Record) -> None:
    dead = _running(run, example, "20260802T000000Z-dead")
    value = json.loads(samebits("show", dead.path.name, "--json").out)
    assert value == dead.read().to_dict()
    assert value["outcome"]["state"] == "interrupted"


def _resealed(run: RunDir, change: Callable[[dict[str, Any]], object], name: str | None = None) -> RunDir:
    """Beside the run another one whose record was changed, with all its digests made anew by hand."""

    def digest(value: object) -> str:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    folder = RunDir(run.path.with_name(name or "20260701T000000Z-changed"))
    folder.path.mkdir(exist_ok=True)
    value = json.loads(EXAMPLE.read_bytes())
    change(value)
    value["recipe_digest"] = digest(value["recipe"])
    value["result_digest"] = None if value["result"] is None else digest(value["result"])
    del value["seal"]
    folder.record.unlink(missing_ok=True)
    folder.record.write_text(json.dumps(value | {"seal": digest(value)}), encoding="utf-8")
    return folder


def _set(*path: str | int, to: object) -> Callable[[dict[str, Any]], object]:
    def change(value: Any) -> None:
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = to

    return change


def test_resealing_is_done_right(samebits: Callable[..., Done], run: RunDir) -> None:
    """Else the tests below would only see a broken seal."""
    changed = _resealed(run, _set("goal", to="metrics"))
    done = samebits("show", changed.path.name)
    assert done.complaint.startswith(f"runs/{changed.path.name}/ledger.jsonl: ")
    assert "level metrics" in _lines(done)


@pytest.mark.parametrize(
    "change",
    [
        _set("result", to={"models": 1, "fits": [], "outputs": []}),
        _set("result", to={"models": [], "fits": []}),
        _set("result", "models", 0, to="x"),
        _set("result", "models", 0, "tensors", to=[1]),
        _set("result", "models", 0, "tensors", to={"trainable": 5}),
        _set("result", "fits", 0, "history", to={"loss": []}),
        _set("result", "fits", 0, "history", to={"loss": [1.5]}),
        _set("result", "fits", 0, "history", to=None),
        _set("result", "outputs", 0, to=["path"]),
        _set("environment", "settings", to=7),
        _set("environment", "settings", 0, to={"name": "x"}),
        _set("environment", "cpu", to="fast"),
        _set("environment", "cpu", to=None),
        _set("environment", to={"python": "3.13"}),
    ],
)
def test_show_of_a_value_of_the_wrong_type(
    samebits: Callable[..., Done], run: RunDir, change: Callable[[dict[str, Any]], object]
) -> None:
    changed = _resealed(run, change)
    done = samebits("show", changed.path.name)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1
    wanted = rf"runs/{changed.path.name}/record\.json: (missing value in )?'?(result|environment)\b.*"
    assert re.fullmatch(wanted, done.complaint)
    assert [line.split()[0] for line in _lines(samebits("list"))] == ["run", changed.path.name, _ID]


@pytest.mark.parametrize("total", ["fast", [], {}])
def test_a_row_of_the_wrong_type_does_not_hide_the_others(
    samebits: Callable[..., Done], run: RunDir, total: object
) -> None:
    changed = _resealed(run, _set("timings", to={"total": total}))
    done = samebits("list")
    assert done.status == 0
    assert [line.split()[0] for line in _lines(done)] == ["run", _ID]
    assert done.complaint == f"runs/{changed.path.name}/record.json: 'timings.total' must be float, not {total!r}"
    assert done.err.count("\n") == 1


def test_what_does_not_belong_on_a_screen(samebits: Callable[..., Done], run: RunDir) -> None:
    """A record may come from somebody else: it can neither move the cursor nor fake a row."""
    nasty = "a\x1b[2Jb\nseed 9\rc\x00d\u202ee\u0085f\tg\u2028h"
    shown = r"a\x1b[2Jb\nseed 9\rc\x00d\u202ee\x85f\tg\u2028h"
    changed = _resealed(run, _set("outcome", "message", to=nasty))
    _resealed(run, _set("result", "outputs", 0, "path", to=nasty.replace("\0", "")), changed.path.name + "-2")
    _resealed(run, _set("recipe", "code", "arguments", to=["grün", nasty]), changed.path.name + "-3")
    printed = [samebits("show", changed.path.name + ending).out for ending in ("", "-2", "-3")]
    assert f"finished: {shown}" in [line.removeprefix("outcome").lstrip(" ") for line in _rows(printed[0])]
    assert any(line.startswith("  " + shown.replace(r"\x00", "") + "  ") for line in _rows(printed[1]))
    assert any(line.endswith(f"  grün {shown}") for line in _rows(printed[2]))
    assert [len(_rows(text)) for text in printed] == [len(_rows(samebits("show", _ID).out))] * 3
    assert not any(letter in "".join(printed) for letter in "\x1b\r\x00\u202e\u0085\t\u2028")
    state = _resealed(run, lambda _: None, "20260702T000000Z-\x1b[31m")
    listed = samebits("list").out
    assert "\x1b" not in listed
    assert state.path.name.replace("\x1b", r"\x1b") in listed


def _rows(text: str) -> list[str]:
    """The lines as a terminal parts them."""
    return text.split("\n")


def test_show_last(samebits: Callable[..., Done], run: RunDir, example: Record) -> None:
    assert _lines(samebits("show", "last"))[0] == f"run {_ID}"
    younger = _running(run, example, "20260802T000000Z-younger")
    assert _lines(samebits("show", "last"))[0] == f"run {younger.path.name}"
    done = samebits("show", "last", "--runs", "nowhere")
    assert (done.status, done.out) == (2, "")
    assert (
        done.complaint
        == "there is no run in nowhere yet; `samebits train` makes one, or name another folder with --runs"
    )


def test_the_folder_of_runs_that_a_file_names(samebits: Callable[..., Done], run: RunDir, tmp_path: Path) -> None:
    run.path.parent.rename(tmp_path / "elsewhere")
    assert samebits("list").status == 2
    (tmp_path / "samebits.toml").write_text('runs = "elsewhere"\n')
    assert [line.split()[0] for line in _lines(samebits("list"))] == ["run", _ID]
    assert [item["folder"] for item in json.loads(samebits("list", "--json").out)] == [f"elsewhere/{_ID}"]
    assert _lines(samebits("show", "last"))[0] == f"run {_ID}"
    assert samebits("show", _ID, "--json").out == EXAMPLE.read_text("utf-8")
    done = samebits("list", "--runs", "runs")
    assert done.complaint == "there is no folder runs; `samebits train` creates it, or name another with --runs"
    (tmp_path / "samebits.toml").write_text("runs = 1\n")
    assert samebits("list").complaint == "samebits.toml: 'runs' must be str, not 1"


def test_show_follows_the_ledger(samebits: Callable[..., Done], run: RunDir) -> None:
    """A problem is not to be overlooked: rows of its own, a line on stderr, and the status."""
    folder = RunDir(run.path.with_name("20260802T000000Z-real"))
    shutil.copytree(EXAMPLE.with_name("ledger-1.1"), folder.path)
    done = samebits("show", folder.path.name)
    assert (done.status, done.err) == (0, "")
    assert _lines(done)[-1] == "ledger 3 lines, each follows the one before"
    lines = folder.ledger.read_bytes().splitlines(keepends=True)
    folder.ledger.write_bytes(lines[1])
    done = samebits("show", folder.path.name)
    assert done.status == 2
    assert _lines(done)[-3:] == [
        "ledger 1 line, and 2 problems",
        "problem line 1 was removed",
        "problem line 3 was removed",
    ]
    assert done.complaint == (
        f"runs/{folder.path.name}/ledger.jsonl: line 1 was removed and 1 more; do not rely on this run"
    )
    assert samebits("show", folder.path.name, "--json").out == folder.record.read_text("utf-8")


def test_show_of_a_run_that_died_in_the_middle_of_a_line(
    samebits: Callable[..., Done], run: RunDir, example: Record
) -> None:
    dead = _running(run, replace(example, ledger=None), "20260802T000000Z-dead")
    with Ledger(dead.ledger, example.recipe.digest) as ledger:
        ledger.append({"epoch": 0})
    with dead.ledger.open("ab") as file:
        file.write(b'{"epo')
    done = samebits("show", dead.path.name)
    assert (done.status, done.err) == (0, "")
    assert _lines(done)[-1].startswith("ledger 1 line, each follows the one before; after it a line that was cut off (")


@pytest.mark.parametrize(
    "row",
    [
        "outcome finished",
        "level bitwise",
        "recipe sha256:bba4ec6d49b423491b3cf1880cec942abc596a8fbaf4135bc63f5631ee508151",
        "arguments --epochs 3 --note grün",
        "seed 7",
        "profile native, 2 threads, x86-64-v3",
        "device cpu",
        "versions python 3.13.5, tensorflow 2.21.0, keras 3.15.1, numpy 2.4.6",
        "cpu Intel(R) Xeon(R) CPU @ 2.20GHz (6/79/0)",
        "model sequential sha256:94c9b9db2ffc2063d6fa49a39281a8d13ae993843634533f521d58d148eef682 (33 tensors)",
        "fit, 3 epochs accuracy 0.8125, loss 0.70125, val_accuracy 0.875, val_loss 0.4375",
        "model.keras sha256:f6cc6ef8774556490a0c3c8ae01b67cf73b51e29fe00c9e2702bb0de1da538ab (tensors)",
        "Keras floatx float32 (keras.config)",
        "ledger 0 lines, and 1 problem",
        "problem cannot read runs/" + _ID + "/ledger.jsonl: No such file or directory, and the record names 4 lines",
    ],
)
def test_what_show_tells(samebits: Callable[..., Done], run: RunDir, row: str) -> None:
    assert row in _lines(samebits("show", run.path.name))


def test_show_aligns_its_columns(samebits: Callable[..., Done], run: RunDir) -> None:
    lines = samebits("show", run.path.name).out.splitlines()
    names = [line[:18].rstrip() for line in lines if line.startswith("  ")]
    assert names[:3] == ["  image", "  base", "  lock"]
    assert {line.index(value) for line, value in zip(lines, (_ID, "finished", "2026-08-01T"), strict=False)} == {27}
    assert [line for line in lines if line != line.rstrip()] == []


def test_show_a_run_that_ended_badly(samebits: Callable[..., Done], run: RunDir, example: Record) -> None:
    outcome = Outcome(state="failed", message="the script failed: ValueError: [red]x[/red]")
    write_record(
        run.record, replace(example, outcome=outcome, result=None, environment=Environment(image_note="none given"))
    )
    lines = _lines(samebits("show", _ID))
    assert lines[:2] == [f"run {_ID}", "outcome failed: the script failed: ValueError: [red]x[/red]"]
    assert not [line for line in lines if line.startswith(("result", "versions"))]


def test_a_name_that_means_more_than_one(samebits: Callable[..., Done], run: RunDir, example: Record) -> None:
    for ending in ("-2", "-3", "-4"):
        _running(run, example, _ID + ending)
    assert _lines(samebits("show", _ID))[0] == f"run {_ID}"  # a whole name counts before the beginning of others
    done = samebits("show", "2026")
    assert done.status == 2
    assert done.complaint == f"4 runs begin with 2026 ({_ID}, {_ID}-2, {_ID}-3, …); write more of the name"


@pytest.mark.parametrize("command", ["show", "rm", "audit", "report"])
def test_an_empty_name_is_no_beginning_of_one(samebits: Callable[..., Done], command: str) -> None:
    """As of a variable that a shell does not know: there is one run, which `rm` would remove."""
    done = samebits(command, "")
    assert (done.status, done.complaint) == (2, "the name of the run is empty; write it, or the beginning of it")


def test_a_name_that_no_file_can_have(run: RunDir) -> None:
    name = "x" * 300
    with pytest.raises(InputError) as caught:
        find_run(name, run.path.parent)
    assert str(caught.value) == f"there is no run {name} in {run.path.parent}; `samebits list` shows all runs"


@pytest.mark.parametrize("command", [["list"], ["show", "x"]])
def test_a_folder_of_runs_that_no_folder_can_be(samebits: Callable[..., Done], command: list[str]) -> None:
    done = samebits(*command, "--runs", "x" * 300)
    assert (done.status, done.out) == (2, "")
    assert "x" * 300 in done.complaint


def test_a_folder_of_somebody_else_does_not_hide_the_others(open_folder: Path) -> None:
    for name in ("theirs", "ours"):
        (open_folder / name).mkdir()
        shutil.copy(EXAMPLE, open_folder / name / "record.json")
    (open_folder / "theirs").chmod(0)
    with unprivileged():
        assert [run.name for run in read_runs(open_folder)] == ["ours"]


@pytest.mark.parametrize("options", [["--json"], []])
def test_a_reader_that_has_gone(run: RunDir, options: list[str]) -> None:
    """As `samebits list | head`."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as closed:
        done = subprocess.run(
            [*COMMAND, "list", *options, "--runs", run.path.parent], stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_thousand_runs(run: RunDir, tmp_path: Path) -> None:
    run.code.mkdir()
    (run.code / "train.py").touch()
    run.create_inside()
    run.reserve.unlink()
    for number in range(999):
        shutil.copytree(run.path, run.path.with_name(f"{_ID}-{number}"))
    assert _seconds("list", folder=tmp_path, times=5) <= 0.5 * _pace(tmp_path)
