"""From a configuration to a run's folder: early errors, what counts as code, and what the recipe depends on."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core.code_tree import check_script, hash_code, hash_kept_code
from samebits.core.digest import Digest
from samebits.core.environment import Environment
from samebits.core.errors import InputError, SamebitsError, StorageError
from samebits.core.file_tree import hash_tree, read_manifest
from samebits.core.origin import Origin
from samebits.core.project import script_layout
from samebits.core.recipe import ImageIdentity, differing_parts
from samebits.core.record import RUNNING, Outcome, read_record
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import MARKER
from samebits.core.run_setup import (
    PlannedRun,
    RunSetup,
    make_recipe,
    plan_run,
    publish,
)
from support.command import Project, write_notebook
from support.machine import on_small_disk, unprivileged

_HERE = sys.version_info[:2]
_NEWER = (_HERE[0], _HERE[1] + 1)
_TOO_DEEP = (
    "nested too deeply",  # a MemoryError, which has no message
    "maximum recursion depth exceeded during compilation",
    "maximum recursion depth exceeded during ast construction",
)
_SETUP = RunSetup(
    image=ImageIdentity(lock=Digest.of_bytes(b"lock"), source=Digest.of_bytes(b"source")),
    environment=Environment(runtime="venv"),
)


@pytest.fixture
def spec(tmp_path: Path) -> RunConfig:
    """A script with a module next to it, and data elsewhere."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("import model\n")
    (tmp_path / "code" / "model.py").write_text("layers = 3\n")
    (tmp_path / "data" / "empty").mkdir(parents=True)
    (tmp_path / "data" / "x.csv").write_text("1,2\n")
    return RunConfig(
        script=tmp_path / "code" / "train.py",
        data=tmp_path / "data",
        runs=tmp_path / "runs",
        arguments=("--epochs", "3"),
    )


def _plan(spec: RunConfig, setup: RunSetup = _SETUP) -> PlannedRun:
    return plan_run(spec, setup)


_NULL_BYTES = "is not Python source: source code string cannot contain null bytes; name a Python file"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"x = 1\0", _NULL_BYTES),
        (bytes(range(256)), _NULL_BYTES),
        ("x = 1".encode("utf-16"), _NULL_BYTES),
        (b"x = 1\ny = (\n", "is not valid Python: line 2: '(' was never closed; fix it and run again"),
        (b"x = 1\ny = 1 +\n", "is not valid Python: line 2: invalid syntax; fix it and run again"),
        (b"x = 1\nreturn\n", "is not valid Python: line 2: 'return' outside function; fix it and run again"),
        (b"await x\n", "is not valid Python: line 1: 'await' outside function; fix it and run again"),
        (b"# coding: klingon\n", "unknown encoding: klingon"),
        (b"x = 1\ny = '\xe9'\n", "is not valid Python: line 2: (unicode error) 'utf-8' codec can't decode byte 0xe9"),
    ],
)
def test_scripts_that_are_not_python(spec: RunConfig, content: bytes, complaint: str) -> None:
    spec.script.write_bytes(content)
    with pytest.raises(InputError) as caught:
        _plan(spec)
    assert str(caught.value).startswith(f"the script {spec.script} ")
    assert complaint in str(caught.value)
    assert not spec.runs.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.py", "the script {script} does not exist; name a Python file"),
        ("absent/train.py", "the script {script} does not exist; name a Python file"),
        ("train.py/train.py", "cannot read the script {script}: Not a directory; name a Python file"),
        (".", "the script {script} is not a file; name a Python file"),
        (".train.py", "the script {script} is left out as a hidden or excluded file; rename it"),
        ("train.pyc", "the script {script} is neither a Python file (.py) nor a notebook (.ipynb); name one"),
        ("data.csv", "the script {script} is neither a Python file (.py) nor a notebook (.ipynb); name one"),
        ("test_x.py", "the script {script} is left out as a hidden or excluded file; rename it"),
    ],
)
def test_missing_scripts(spec: RunConfig, name: str, message: str) -> None:
    for hidden in (".train.py", "train.pyc", "test_x.py", "data.csv"):
        (spec.code_folder / hidden).touch()
    script = spec.code_folder / name
    with pytest.raises(InputError) as caught:
        _plan(replace(spec, script=script, exclude=("test_*",)))
    assert str(caught.value) == message.format(script=script)
    assert not spec.runs.exists()


def test_syntax_of_a_newer_python(spec: RunConfig) -> None:
    """Only the Python that runs the script can check it."""
    spec.script.write_text("from __future__ import sooner or later\n")
    check_script(spec.script, _NEWER)
    for python in (_HERE, (3, 0)):
        with pytest.raises(
            InputError, match=f"^the script {re.escape(str(spec.script))} is not valid Python: line 1: "
        ):
            check_script(spec.script, python)
    spec.script.write_bytes(b"\0")
    with pytest.raises(InputError, match="is not Python source"):
        check_script(spec.script, _NEWER)


@pytest.mark.parametrize("text", ["-" * 100_000 + "1", "a" + ".b" * 100_000], ids=["signs", "attributes"])
def test_a_script_that_python_cannot_parse(spec: RunConfig, text: str) -> None:
    spec.script.write_text(text)
    with pytest.raises(InputError) as caught:
        check_script(spec.script, _HERE)
    beginning, _, reason = str(caught.value).partition(" is not Python source: ")
    assert beginning == f"the script {spec.script}"
    assert reason.removesuffix("; name a Python file") in _TOO_DEEP


def test_a_script_that_returns(small_project: Project) -> None:
    small_project.write("x = 1\nif x:\n    return\n")
    done = small_project.train()
    assert (done.status, done.out) == (2, "")
    assert done.complaint == (
        "the script train.py is not valid Python: line 3: 'return' outside function; fix it and run again"
    )
    assert not small_project.runs.exists()


def test_an_unreadable_script(open_folder: Path) -> None:
    script = open_folder / "train.py"
    script.touch(mode=0)
    with unprivileged(), pytest.raises(InputError) as caught:
        check_script(script, _HERE)
    assert str(caught.value) == f"cannot read the script {script}: Permission denied; name a Python file"


def test_a_script_that_is_a_pipe(spec: RunConfig) -> None:
    pipe = spec.code_folder / "pipe.py"
    os.mkfifo(pipe)
    with pytest.raises(InputError) as caught:
        check_script(pipe, _HERE)
    assert str(caught.value) == f"the script {pipe} is not a file; name a Python file"


def test_what_is_code(spec: RunConfig) -> None:
    folder = spec.code_folder
    for name in (
        ".git/config", ".env", "__pycache__/model.cpython-313.pyc", "model.pyc", "lib/__pycache__/x.pyc", "lib/util.py",
        "venv/pyvenv.cfg", "venv/lib/a.py", f"old-runs/{MARKER}", "old-runs/r/record.json", "runs/r/record.json",
        "data/x.csv", "notes/a.md", "config.yaml",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder.parent / "link").symlink_to("code")
    ours = replace(spec, data=folder.parent / "link" / "data", runs=folder / "runs", exclude=("notes/*",))
    paths = [entry.path for entry in hash_code(ours).entries]
    assert paths == ["config.yaml", "lib/util.py", "model.py", "train.py"]
    assert [entry.path for entry in hash_code(replace(ours, data=None, exclude=())).entries] == sorted(
        [*paths, "data/x.csv", "notes/a.md"]
    )


def test_what_samebits_writes_is_no_code(spec: RunConfig) -> None:
    before = hash_code(spec).digest
    for name in ("r.samebits.html", "r.samebits.tar", "more/r.samebits.md", "mlruns/0/meta.yaml"):
        (spec.code_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (spec.code_folder / name).write_text("x")
    (spec.code_folder / "more" / "r.samebits.md").rename(spec.code_folder / "r.samebits.md")
    (spec.code_folder / "more").rmdir()
    assert hash_code(spec).digest == before


@pytest.mark.parametrize("kind", ["", "EC ", "ENCRYPTED ", "OPENSSH "])
def test_a_private_key_is_no_code(spec: RunConfig, kind: str) -> None:
    (spec.code_folder / "a.pub").write_text("-----BEGIN PUBLIC KEY-----\n")
    assert "a.pub" in [entry.path for entry in hash_code(spec).entries]
    (spec.code_folder / "a.pem").write_text(f"-----BEGIN {kind}PRIVATE KEY-----\nMC4=\n")
    with pytest.raises(InputError) as caught:
        hash_code(spec)
    assert str(caught.value) == (
        "the code holds a private key, a.pem, and the run would copy it;"
        " move it out of the code's folder, or leave it out with --exclude"
    )
    assert hash_code(replace(spec, exclude=("*.pem",))).entries


@pytest.mark.parametrize("name", ["code", "code/../code", "link"])
def test_runs_kept_in_the_scripts_own_folder_are_refused(spec: RunConfig, tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to("code")
    with pytest.raises(InputError) as caught:
        _plan(replace(spec, runs=tmp_path / name))
    assert str(caught.value) == (
        f"runs cannot be kept in the code's own folder {tmp_path / name}; name another with --runs"
    )
    assert sorted(os.listdir(spec.code_folder)) == ["model.py", "train.py"]


@pytest.mark.parametrize("name", ["data", "data/runs", "data/empty", "data/a/b", "link/runs"])
def test_runs_kept_in_the_data_are_refused(spec: RunConfig, tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to("data")
    assert spec.data is not None
    with pytest.raises(InputError) as caught:
        _plan(replace(spec, runs=tmp_path / name))
    assert str(caught.value) == f"runs cannot be kept in the data folder {spec.data}; name another with --runs"
    assert sorted(os.listdir(spec.data)) == ["empty", "x.csv"]


@pytest.mark.parametrize("name", ["runs", "code/runs", "data-2", "."])
def test_runs_kept_elsewhere_change_nothing(spec: RunConfig, tmp_path: Path, name: str) -> None:
    ours = replace(spec, runs=tmp_path / name)
    first, _ = publish(_plan(ours))
    assert differing_parts(read_record(first.record).recipe, _plan(ours).recipe) == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--runs", "."], "runs cannot be kept in the code's own folder .; name another with --runs"),
        (["--runs", "data/runs"], "runs cannot be kept in the data folder data; name another with --runs"),
        (["--data", "."], "runs cannot be kept in the data folder .; name another with --runs"),
        (["--gpus", "0"], "gpus must be 'all' or a number, not '0'"),
    ],
)
def test_a_refusal_is_one_line(small_project: Project, options: list[str], complaint: str) -> None:
    before = sorted(os.listdir(small_project.folder))
    done = small_project.train(*options)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert done.complaint == complaint
    assert sorted(os.listdir(small_project.folder)) == before


@pytest.mark.parametrize("name", ["runs", "data"])
def test_a_folder_that_is_a_link_to_itself(spec: RunConfig, tmp_path: Path, name: str) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    changes: dict[str, Any] = {name: loop}
    with pytest.raises(SamebitsError, match=re.escape(str(loop))):
        _plan(replace(spec, **changes))


@pytest.mark.parametrize(
    ("files", "size", "holds", "largest"),
    [
        (5001, 0, "5,003 files, 0 MiB", ", most in big/ 5,001 files"),
        (1, 60 << 20, "3 files, 60 MiB", ", most in big/ 60 MiB"),
    ],
)
def test_too_large_for_code(spec: RunConfig, files: int, size: int, holds: str, largest: str) -> None:
    (spec.code_folder / "big").mkdir()
    for number in range(files):
        with (spec.code_folder / "big" / f"{number}.bin").open("wb") as file:
            file.truncate(size)
    with pytest.raises(InputError) as caught:
        _plan(spec)
    assert str(caught.value) == (
        f"the code's folder {spec.code_folder} holds {holds}{largest}: too much for code;"
        " name the data with --data, or leave files out with --exclude"
    )
    plan_run(replace(spec, exclude=("*.bin",)), _SETUP)


def _empty(data: Path) -> None:
    shutil.rmtree(data)
    data.mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "the data folder {data} does not exist; name a folder that holds the data"),
        (_empty, "the data folder {data} is empty; name a folder that holds the data"),
        (
            lambda data: (data / "l").symlink_to("l"),
            "the data folder holds a link that loops: {data}/l; remove the link",
        ),
    ],
    ids=["absent", "empty", "loop"],
)
def test_data_that_cannot_be_used(spec: RunConfig, spoil: Callable[[Path], object], message: str) -> None:
    assert spec.data is not None
    spoil(spec.data)
    with pytest.raises(InputError) as caught:
        _plan(spec)
    assert str(caught.value) == message.format(data=spec.data)
    assert not spec.runs.exists()


def _append(name: str) -> Callable[[RunConfig], RunConfig]:
    """Change one byte next to the script or in the data."""

    def change(spec: RunConfig) -> RunConfig:
        with (spec.code_folder.parent / name).open("r+b") as file:
            file.write(b"9")
        return spec

    return change


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda spec: spec, []),
        (lambda spec: replace(spec, runs=spec.runs / "other", level="documented"), []),
        (lambda spec: replace(spec, ignore_outputs=("*.log",)), ["ignore_outputs"]),
        (_append("data/x.csv"), ["data.tree"]),
        (lambda spec: replace(spec, data=None), ["data.tree"]),
        (_append("code/model.py"), ["code.tree"]),
        (lambda spec: replace(spec, exclude=("model.py",)), ["code.tree"]),
        (lambda spec: replace(spec, script=spec.code_folder / "model.py"), ["code.entry"]),
        (lambda spec: replace(spec, arguments=("--epochs", "4")), ["code.arguments"]),
        (lambda spec: replace(spec, arguments=("--epochs 3",)), ["code.arguments"]),
        (lambda spec: replace(spec, seed=1), ["seed"]),
        (lambda spec: replace(spec, threads=1), ["profile.threads"]),
        (lambda spec: replace(spec, shuffle="per-epoch"), ["shuffle"]),
        (lambda spec: replace(spec, workers=2), ["world_size"]),
    ],
)
def test_what_the_recipe_depends_on(
    spec: RunConfig, change: Callable[[RunConfig], RunConfig], parts: list[str]
) -> None:
    before = _plan(spec).recipe
    after = _plan(change(spec)).recipe
    assert differing_parts(before, after) == parts
    assert (before.digest == after.digest) == (not parts)


def test_the_profile_is_in_the_recipe(spec: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU that has what the portable profile needs."""
    monkeypatch.setattr("samebits.core.run_setup.instruction_set", lambda: "x86-64-v4")
    native = _plan(replace(spec, threads=1)).recipe
    portable = _plan(replace(spec, profile="portable")).recipe
    assert differing_parts(native, portable) == ["profile.instruction_set", "profile.name"]


def test_the_recipe_does_not_depend_on_paths(spec: RunConfig, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(spec.code_folder, other / "c")
    shutil.copytree(tmp_path / "data", other / "d")
    moved = replace(spec, script=other / "c" / "train.py", data=other / "d", runs=other / "r")
    assert _plan(moved).recipe == _plan(spec).recipe


def test_the_folder_of_a_run(spec: RunConfig) -> None:
    assert spec.data is not None
    (spec.code_folder / "run.sh").touch(mode=0o755)
    (spec.code_folder / "assets" / "none").mkdir(parents=True)
    (spec.code_folder / "alias.py").symlink_to("model.py")
    planned = _plan(spec)
    folder, record = publish(planned)
    assert sorted(os.listdir(folder.path)) == [
        ".reserve", "code", "code.jsonl", "data.jsonl", "ledger.jsonl", "models", "outputs", "record.json",
    ]  # fmt: skip
    assert folder.path.name == f"{planned.started:%Y%m%dT%H%M%SZ}-train-{planned.recipe.digest.short}"
    assert read_record(folder.record) == record
    assert hash_tree(folder.code, "code", modes=True) == planned.code == read_manifest(folder.code_manifest)
    assert not (folder.code / "alias.py").is_symlink()
    assert os.access(folder.code / "run.sh", os.X_OK)
    assert read_manifest(folder.data_manifest) == planned.data == hash_tree(spec.data, "data")
    assert record.outcome == Outcome(state=RUNNING)
    assert record.recipe == planned.recipe
    assert record.environment == Environment(runtime="venv")
    assert record.origin == Origin(script=str(spec.script), data=str(spec.data))
    assert json.loads(folder.record.read_bytes())["recipe_digest"] == str(planned.recipe.digest)


def test_code_keeps_its_modes(spec: RunConfig) -> None:
    """A program beside the script can still be called."""
    program = spec.code_folder / "prepare.sh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    planned = _plan(spec)
    folder, _ = publish(planned)
    assert os.access(folder.code / "prepare.sh", os.X_OK)
    assert (folder.code / "prepare.sh").stat().st_mode & 0o7777 == 0o755
    assert planned.recipe.code.modes
    # The script can see the mode, so that it belongs to the recipe.
    program.chmod(0o644)
    assert _plan(spec).recipe.code.tree != planned.recipe.code.tree
    program.chmod(0o711)
    assert _plan(spec).recipe.code.tree == planned.recipe.code.tree


def test_kept_code_is_hashed_by_the_rule_of_its_recipe(spec: RunConfig) -> None:
    """Recipes of version 1.3 and before name trees without modes."""
    program = spec.code_folder / "prepare.sh"
    program.touch(mode=0o755)
    planned = _plan(spec)
    folder, record = publish(planned)
    old = hash_tree(spec.code_folder, "code")
    assert hash_kept_code(folder).digest == planned.recipe.code.tree != old.digest
    assert hash_kept_code(folder, replace(record.recipe.code, modes=False)).digest == old.digest
    assert make_recipe(spec, planned.setup, old, None, None).code == replace(
        record.recipe.code, tree=old.digest, modes=False
    )
    (folder.code / "prepare.sh").chmod(0o644)
    assert hash_kept_code(folder).digest != planned.recipe.code.tree


def test_the_copied_code_tells_nothing_of_its_source(spec: RunConfig, tmp_path: Path) -> None:
    """Times, modes, links and extended attributes are the same, wherever and whenever the code was written."""
    other = shutil.copytree(spec.code_folder, tmp_path / "other")
    (other / "model.py").chmod(0o600)
    (other / "link.py").hardlink_to(other / "model.py")
    shutil.copy(spec.code_folder / "model.py", spec.code_folder / "link.py")
    os.utime(other / "model.py", (5, 5))
    with suppress(OSError):  # not every file system has them
        os.setxattr(other / "model.py", "user.note", b"mine")
    seen: list[Any] = []
    for script in (spec.script, other / "train.py"):
        folder, _ = publish(_plan(replace(spec, script=script)))
        paths = sorted([folder.code, *folder.code.rglob("*")])
        facts = [(path.stat().st_mode, path.stat().st_mtime_ns, path.stat().st_nlink) for path in paths]
        seen.append([facts, [os.listxattr(path) for path in paths]])
    assert seen[0] == seen[1]
    assert {time for _, time, _ in seen[0][0]} == {1_767_225_600 * 10**9}


def test_declared_variables_belong_to_the_recipe(spec: RunConfig) -> None:
    plain, declared = _plan(spec).recipe, _plan(replace(spec, env=("LR=0.1",))).recipe
    assert "env" not in plain.to_dict()
    assert declared.to_dict()["env"] == {"LR": "0.1"}
    assert plain.digest != declared.digest


def test_a_second_run_of_the_same_recipe_has_a_folder_of_its_own(spec: RunConfig) -> None:
    planned = _plan(spec)
    assert [publish(planned)[0].path.name for _ in range(2)] == [planned.name, f"{planned.name}-2"]


def test_a_run_without_data(spec: RunConfig) -> None:
    folder, record = publish(_plan(replace(spec, data=None)))
    assert not folder.data_manifest.exists()
    assert record.recipe.data is None
    assert record.origin.data is None


def test_special_characters_in_the_name_are_replaced(spec: RunConfig) -> None:
    script = spec.script.rename(spec.code_folder / "größe (1).py")
    folder, _ = publish(_plan(replace(spec, script=script)))
    assert re.fullmatch(r"\d{8}T\d{6}Z-gr__e__1_-[0-9a-f]{8}", folder.path.name)


def test_a_failed_publish_leaves_no_folder(spec: RunConfig) -> None:
    planned = _plan(spec)
    (spec.code_folder / "model.py").unlink()
    with pytest.raises(StorageError):
        publish(planned)
    assert os.listdir(spec.runs) == [MARKER]


def test_a_full_disk(spec: RunConfig, tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from samebits.core.digest import Digest
from samebits.core.errors import StorageError
from samebits.core.run_setup import RunSetup, plan_run, publish
from samebits.core.recipe import ImageIdentity
from samebits.core.run_config import RunConfig
digest = Digest.of_bytes(b"")
setup = RunSetup(image=ImageIdentity(lock=digest, source=digest))
try:
    publish(plan_run(RunConfig(script=Path({str(spec.script)!r}), runs=Path()), setup))
except StorageError as error:
    print(error)
print(os.listdir())
"""
    (tmp_path / "disk").mkdir()
    complaint, left = on_small_disk(code, tmp_path / "disk")
    assert re.fullmatch(r"the disk is full: cannot write \S+; free some space and run again", complaint)
    assert left == f"['{MARKER}']"


def test_a_read_only_folder_of_runs(open_folder: Path) -> None:
    (open_folder / "train.py").touch()
    runs = open_folder / "runs"
    with unprivileged(), pytest.raises(StorageError) as caught:
        _plan(RunConfig(script=open_folder / "train.py", runs=runs))
    assert str(caught.value) == f"cannot write {runs}: Permission denied; choose a folder that you may write to"


_FF = os.fsdecode(b"\xff")


def test_an_argument_that_is_not_utf8(spec: RunConfig) -> None:
    for arguments in ((_FF,), ("--note", "a" + _FF)):
        with pytest.raises(InputError) as caught:
            replace(spec, arguments=arguments)
        assert (
            str(caught.value) == f"not UTF-8: {os.fsencode(arguments[-1])!r}; rename it, as a record stores UTF-8 only"
        )


def test_a_path_that_is_not_utf8(spec: RunConfig, tmp_path: Path) -> None:
    """Paths are recorded, but change nothing."""
    script = Path(shutil.copytree(spec.code_folder, tmp_path / _FF)) / "train.py"
    data = Path(shutil.copytree(tmp_path / "data", tmp_path / f"data{_FF}"))
    folder, record = publish(_plan(replace(spec, script=script, data=data)))
    assert record.origin == Origin(script=rf"{tmp_path}/\xff/train.py", data=rf"{tmp_path}/data\xff")
    assert read_record(folder.record) == record
    assert record.recipe == _plan(spec).recipe


@pytest.mark.parametrize("name", ["exclude", "ignore_outputs"])
def test_a_pattern_that_is_not_utf8(spec: RunConfig, name: str) -> None:
    changes: dict[str, Any] = {name: (_FF,)}
    with pytest.raises(InputError, match="UTF-8"):
        publish(_plan(replace(spec, **changes)))


def test_a_notebook_is_kept_as_a_script(spec: RunConfig) -> None:
    """Its outputs change whenever it is run; the recipe is about its code."""
    notebook = write_notebook(spec.code_folder / "a.ipynb", "x = 1")
    ours = replace(spec, script=notebook, layout=script_layout(notebook, spec.code_folder, None, None))
    first = _plan(ours)
    run, record = publish(first)
    assert (run.code / "a.ipynb.py").read_text() == "# %% cell 2\nx = 1\n"
    assert not (run.code / "a.ipynb").exists()
    assert record.recipe.code.entry == "a.ipynb.py"
    assert hash_kept_code(run, record.recipe.code).digest == record.recipe.code.tree
    write_notebook(notebook, "x = 1", metadata={"title": "seen again"})
    assert _plan(ours).recipe.digest == first.recipe.digest
    write_notebook(notebook, "x = 2")
    assert _plan(ours).recipe.digest != first.recipe.digest
    (spec.code_folder / "a.ipynb.py").touch()
    with pytest.raises(InputError, match=r"a\.ipynb\.py has the name of the script made of the notebook; rename it$"):
        _plan(ours)


def test_a_link_to_the_data_is_left_out_with_it(spec: RunConfig) -> None:
    (spec.code_folder / "data").symlink_to(spec.data or "")
    assert _plan(spec).code == _plan(replace(spec, exclude=("data",))).code
    with pytest.raises(InputError, match="a link that leaves it"):
        _plan(replace(spec, data=None))
