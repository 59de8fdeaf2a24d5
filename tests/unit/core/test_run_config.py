"""Command line and `samebits.toml` merge into one configuration; errors in either are one line."""

from pathlib import Path
from typing import Any

import pytest

from samebits.core.errors import InputError
from samebits.core.recipe import KNOWN_LOGS
from samebits.core.retention import RetentionPolicy
from samebits.core.run_config import (
    OneLineParser,
    RunConfig,
    add_run_options,
    make_config,
    read_config,
    split_arguments,
)

_SCRIPT = Path("train.py")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": -1}, "the seed must be from 0 to 4294967295 (NumPy takes 32 bits), not -1"),
        ({"seed": 2**32}, "the seed must be from 0 to 4294967295 (NumPy takes 32 bits), not 4294967296"),
        ({"threads": 0}, "threads must be from 1 to 1024, not 0"),
        ({"profile": "fast"}, "unknown profile 'fast'; choose one of: native, portable"),
        ({"level": "exact"}, "level must be one of bitwise, metrics, documented, not 'exact'"),
        ({"runtime": "lxc"}, "runtime must be one of auto, container, docker, podman, apptainer, venv, not 'lxc'"),
        ({"gpus": "some"}, "gpus must be 'all' or a number, not 'some'"),
        ({"gpus": "0"}, "gpus must be 'all' or a number, not '0'"),
        ({"gpus": "00"}, "gpus must be 'all' or a number, not '00'"),
        ({"gpus": "-1"}, "gpus must be 'all' or a number, not '-1'"),
        ({"gpus": ""}, "gpus must be 'all' or a number, not ''"),
        ({"keep": "few"}, "keep must be all, last, none or every:N, not 'few'"),
        ({"checkpoint_every": 0}, "checkpoint-every must be 1 step or more, not 0"),
        ({"keep": "none", "checkpoint_every": 9}, "keep none writes no checkpoint; drop checkpoint-every"),
    ],
)
def test_invalid_values(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        RunConfig(script=_SCRIPT, **values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "values", [{"seed": 0}, {"seed": 2**32 - 1}, {"gpus": "all"}, {"gpus": "2"}, {"level": "metrics"}]
)
def test_boundary_values(values: dict[str, Any]) -> None:
    spec = RunConfig(script=_SCRIPT, **values)
    assert {name: getattr(spec, name) for name in values} == values


@pytest.mark.parametrize(
    ("argv", "split"),
    [
        ([], ([], None)),
        (["train", "t.py"], (["train", "t.py"], None)),
        (["t.py", "--"], (["t.py"], ())),
        (
            ["t.py", "--seed", "1", "--", "--seed", "2", "--", "x"],
            (["t.py", "--seed", "1"], ("--seed", "2", "--", "x")),
        ),
    ],
)
def test_split_arguments(argv: list[str], split: tuple[list[str], tuple[str, ...] | None]) -> None:
    assert split_arguments(argv) == split


def _parse(folder: Path, *words: str) -> RunConfig:
    """Parse as the command line does."""
    ours, arguments = split_arguments([str(folder / "train.py"), *words])
    parser = OneLineParser(prog="samebits train")
    add_run_options(parser)
    return make_config(vars(parser.parse_args(ours)) | {"arguments": arguments})


@pytest.mark.parametrize(
    ("toml", "words", "expected"),
    [
        (None, [], {"seed": 0, "threads": None, "runs": Path("runs"), "data": None, "arguments": (), "exclude": ()}),
        ("seed = 6", [], {"seed": 6, "threads": None}),
        ("seed = 6", ["--seed", "0"], {"seed": 0}),
        ("arguments = ['--epochs', '3']", [], {"arguments": ("--epochs", "3")}),
        ("arguments = ['--epochs', '3']", ["--", "x"], {"arguments": ("x",)}),
        ("arguments = ['--epochs', '3']", ["--"], {"arguments": ()}),
        ("data = 'd'\nruns = 'r'", [], {"data": Path("{folder}/d"), "runs": Path("{folder}/r")}),
        ("data = '/d'", ["--data", "e"], {"data": Path("e")}),
        ("data = 'd'", ["--data", "e"], {"data": Path("e")}),
        (
            "ignore-outputs = ['*.log']\nexclude = ['a']",
            [],
            {"ignore_outputs": (*KNOWN_LOGS, "*.log"), "exclude": ("a",)},
        ),
        ("exclude = ['a']", ["--exclude", "b", "--exclude", "c"], {"exclude": ("b", "c")}),
        ("threads = 3\nprofile = 'native'\nlevel = 'documented'", [], {"threads": 3, "level": "documented"}),
        ("goal = 'documented'", [], {"level": "documented"}),
        ("goal = 'documented'", ["--level", "metrics"], {"level": "metrics"}),
        ("level = 'documented'", ["--goal", "metrics"], {"level": "metrics"}),
        ("gpus = 'all'", [], {"gpus": "all", "image": None}),
        ("env = ['LR=1', 'N=2']", ["--env", "LR=3"], {"env": ("LR=3", "N=2"), "declared": {"LR": "3", "N": "2"}}),
        ("", [], {"env": (), "declared": {}}),
        ("", ["--ignore-output", "a/*"], {"ignore_outputs": (*KNOWN_LOGS, "a/*")}),
        ("", [], {"retention": RetentionPolicy(keep="last")}),
        ("keep = 'every:5'\ncheckpoint-every = 100", [], {"retention": RetentionPolicy(keep="every:5", every=100)}),
        ("keep = 'all'", ["--keep", "none"], {"retention": RetentionPolicy(keep="none")}),
        ("checkpoint-every = 3", ["--checkpoint-every", "4"], {"retention": RetentionPolicy(keep="last", every=4)}),
    ],
)
def test_command_line_over_toml(tmp_path: Path, toml: str | None, words: list[str], expected: dict[str, Any]) -> None:
    if toml is not None:
        (tmp_path / "samebits.toml").write_text(toml)
    spec = _parse(tmp_path, *words)
    for name, value in expected.items():
        wanted = Path(str(value).format(folder=tmp_path)) if isinstance(value, Path) else value
        assert getattr(spec, name) == wanted, name
    assert spec.code_folder == tmp_path


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("goal = 'metrics'\nlevel = 'metrics'", "'goal' and 'level' are the same option; remove 'goal'"),
        ("goal = 1", "'goal' must be str, not 1"),
        ("sede = 1", "unknown key 'sede'; did you mean 'seed'?"),
        ("ignore_outputs = []", "unknown key 'ignore_outputs'; did you mean 'ignore-outputs'?"),
        ("epochs = 5", "unknown key 'epochs'; remove it"),
        ("script = 'x.py'", "unknown key 'script'; did you mean 'strict'?"),
        ("seed = '1'", "'seed' must be int, not '1'"),
        ("seed = true", "'seed' must be int, not True"),
        ("threads = 2.0", "'threads' must be int, not 2.0"),
        ("gpus = 1", "'gpus' must be str, not 1"),
        ("keep = 1", "'keep' must be str, not 1"),
        ("checkpoint-every = '9'", "'checkpoint-every' must be int, not '9'"),
        ("data = ['d']", "'data' must be str, not ['d']"),
        ("exclude = '*.md'", "'exclude' must be list, not '*.md'"),
        ("arguments = ['--epochs', 3]", "'arguments[1]' must be str, not 3"),
    ],
)
def test_invalid_toml_values(tmp_path: Path, toml: str, message: str) -> None:
    path = tmp_path / "samebits.toml"
    path.write_text(toml)
    with pytest.raises(InputError) as caught:
        read_config(path)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"seed = ", "it is not TOML: invalid value (at end of document)"),
        (b"seed = 1\nseed = 2\n", "it is not TOML: cannot overwrite a value (at line 2, column 9)"),
        (b"level = '\xff'", "it is not UTF-8"),
    ],
)
def test_a_broken_toml(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "samebits.toml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_config(path)
    assert str(caught.value) == f"cannot read {path}: {reason}; fix or remove the file"


def test_a_toml_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "samebits.toml").mkdir()
    with pytest.raises(InputError, match=r"^cannot read .*/samebits\.toml: Is a directory; fix or remove the file$"):
        read_config(tmp_path / "samebits.toml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["--seed", "1.0"], "argument --seed: invalid int value: '1.0'"),
        (["--threads"], "argument --threads: expected one argument"),
        (["--epochs", "5"], "unrecognized arguments: --epochs 5"),
        (["--dat", "d"], "unrecognized arguments: --dat d"),
        (["--ignore-outputs=*"], "unrecognized arguments: --ignore-outputs=*"),
    ],
)
def test_a_wrong_command_line_is_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        _parse(tmp_path, *words)
    assert str(caught.value) == f"{message}; see 'samebits train --help'"


@pytest.mark.parametrize("key", ["runtime", "image"])
def test_what_a_project_may_not_choose(tmp_path: Path, key: str) -> None:
    (tmp_path / "samebits.toml").write_text(f"{key} = 'venv'\n")
    with pytest.raises(InputError, match=rf"'{key}' is not for a project to choose; use --{key}, or put it into "):
        _parse(tmp_path)


@pytest.mark.parametrize("name", ["data", "runs"])
@pytest.mark.parametrize("place", ["/outside", "../outside", "link", "inside/../../outside"])
def test_a_project_names_no_folder_outside(tmp_path: Path, name: str, place: str) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "link").symlink_to(tmp_path)
    (project / "samebits.toml").write_text(f"{name} = '{place}'\n")
    with pytest.raises(InputError, match=rf"names {name} outside of the project, .*; use --{name}$"):
        _parse(project)
    assert getattr(_parse(project, f"--{name}", place), name) == Path(place), "the user may"


def test_the_users_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the project's, and that below the command line."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    own = tmp_path / "config" / "samebits" / "config.toml"
    own.parent.mkdir(parents=True)
    own.write_text("runtime = 'venv'\nruns = '/all/runs'\n")
    project = tmp_path / "project"
    project.mkdir()
    spec = _parse(project)
    assert (spec.runtime, spec.runs) == ("venv", Path("/all/runs"))
    (project / "samebits.toml").write_text("runs = 'here'\n")
    assert _parse(project).runs == project / "here"
    assert _parse(project, "--runs", "there").runs == Path("there")
    for text, message in (
        ("seed = 1", "unknown key 'seed'; it may hold image, runs, runtime, "),
        ("runs = 1", "must be str"),
    ):
        own.write_text(text)
        with pytest.raises(InputError, match=message):
            _parse(project)
    own.write_text("runtime = ")
    with pytest.raises(InputError, match=r"config.toml: .*; fix or remove the file$"):
        _parse(project)


def test_a_path_with_a_nul(tmp_path: Path) -> None:
    path = tmp_path / "samebits.toml"
    path.write_text('runs = "a\\u0000b"\n')
    with pytest.raises(InputError) as caught:
        read_config(path)
    assert str(caught.value) == f"{path}: 'runs' holds a NUL character; remove it"


def test_a_declared_name_takes_the_callers_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "samebits.toml").write_text("env = ['LR']\n")
    with pytest.raises(InputError, match="LR is declared and has no value"):
        _parse(tmp_path)
    monkeypatch.setenv("LR", "0.5")
    assert _parse(tmp_path).env == ("LR=0.5",)
    assert _parse(tmp_path, "--env", "LR=0.1").env == ("LR=0.1",)
    # In a container, the caller's variables are those of `docker run`.
    assert make_config({"script": tmp_path / "train.py"}, {"LR": "7"}).env == ("LR=7",)


@pytest.mark.parametrize("arguments", [(), ("--api-key", "s3cret")])
def test_a_redacted_value_in_a_file_that_is_copied(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "train.py").touch()
    (tmp_path / "samebits.toml").write_text('arguments = ["--api-key=s3cret"]\n')
    options = {"script": tmp_path / "train.py", "redact": ["api-key"]}
    with pytest.raises(InputError, match=r"--redact api-key: its value is in the arguments of samebits\.toml"):
        make_config(options | ({"arguments": arguments} if arguments else {}))
