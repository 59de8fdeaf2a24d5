"""A plain `docker run` cannot change what runs without the recipe saying so. Each attack is tried for real."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from samebits.core.recipe import differing_parts
from samebits.core.record import read_record
from support.command import Project
from support.images import plain_run

pytestmark = pytest.mark.usefixtures("engine")

_TAN = "import math\nprint('tan', math.tan(1.0))\n"
_SEES = (
    "import os, pathlib\n"
    "print('LR', os.environ.get('LR'))\nprint('NOTE', os.environ.get('NOTE'))\n"
    "raw = pathlib.Path('/proc/self/environ').read_bytes()\n"
    "print('raw', sorted(name for name in (b'LR', b'NOTE', b'SECRET') if name + b'=' in raw))\n"
    "print('others', sorted(name for name in os.environ if name.startswith(('SAMEBITS_G', 'SECRET', 'HOSTNAME'))))\n"
)


@pytest.fixture
def plain(in_docker: Project) -> Project:
    in_docker.runs.mkdir()
    return in_docker


def _python(options: tuple[str, ...], program: str) -> str:
    """What the image's Python prints without samebits: whether the attack would work."""
    command = ["docker", "run", "--rm", *options, "--entrypoint", "python", "samebits:cpu", "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _preloaded(folder: Path) -> tuple[str, ...]:
    """The options that load a library in which `tan` returns 42."""
    (folder / "tan.c").write_text("double tan(double x) { return 42.0; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "tan.so", folder / "tan.c"], check=True)
    return ("-v", f"{folder}/tan.so:/tan.so:ro", "-e", "LD_PRELOAD=/tan.so")


def test_a_preloaded_library(plain: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    options = _preloaded(tmp_path_factory.mktemp("attack"))
    assert _python(options, _TAN) == "tan 42.0\n"
    plain.write(_TAN)
    done = plain_run(plain, "train.py", options=options)
    assert done.status == 2
    assert done.complaint == (
        "the environment sets LD_PRELOAD=/tan.so, which changes how programs run and is part of no recipe; remove it"
    )
    assert not list(plain.runs.glob("*/record.json"))


def test_a_library_preloaded_past_the_entrypoint(plain: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The runner starts itself again where something else than the entrypoint started it."""
    options = (*_preloaded(tmp_path_factory.mktemp("attack")), "--entrypoint", "python")
    plain.write(_TAN)
    done = plain_run(plain, "-P", "-m", "samebits.runner", "train.py", options=options)
    assert done.status == 2
    assert done.complaint.startswith("the environment sets LD_PRELOAD=/tan.so, which changes how programs run")


def test_a_preloaded_library_by_the_loaders_file(plain: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without any variable."""
    folder = tmp_path_factory.mktemp("attack")
    library = _preloaded(folder)[:2]
    (folder / "preload").write_text("/tan.so\n")
    options = (*library, "-v", f"{folder}/preload:/etc/ld.so.preload:ro")
    assert _python(options, _TAN) == "tan 42.0\n"
    done = plain_run(plain, "train.py", options=options)
    assert done.status == 2
    assert done.complaint.startswith("/etc/ld.so.preload is mounted over software of the image")
    assert plain.only_run().result is None


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "PYTHONPATH", "PYTHONOPTIMIZE"])
def test_a_variable_that_changes_programs(plain: Project, name: str) -> None:
    (plain.folder / "sitecustomize.py").write_text("import math\nmath.tan = lambda x: 42.0\n")
    value = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2_Usable", "PYTHONPATH": "/work", "PYTHONOPTIMIZE": "2"}[name]
    done = plain_run(plain, "train.py", options=("-e", f"{name}={value}"))
    assert done.status == 2
    assert done.complaint == (
        f"the environment sets {name}={value}, which changes how programs run and is part of no recipe; remove it"
    )


def test_a_variable_of_the_scripts_own(plain: Project) -> None:
    """What is not declared does not exist for the script, and what is declared is part of the recipe."""
    plain.write(_SEES)
    options = ("-e", "LR=0.1", "-e", "NOTE=x", "-e", "SECRET=hunter2")
    undeclared = plain_run(plain, "train.py", options=options)
    assert undeclared.status == 0, undeclared.err
    assert (undeclared.line("LR"), undeclared.line("NOTE")) == ("None", "None")
    assert (undeclared.line("raw"), undeclared.line("others")) == ("[]", "[]")
    assert "the script does not see LR, NOTE, SECRET; a variable that it needs is declared with --env" in undeclared.err
    assert "env" not in plain.only_run().recipe.to_dict()

    (plain.folder / "samebits.toml").write_text('env = ["LR"]\n')
    runs = [plain_run(plain, "train.py", "--env", "NOTE=y", options=("-e", f"LR={rate}")) for rate in (0.1, 0.2)]
    assert [(done.line("LR"), done.line("NOTE")) for done in runs] == [("0.1", "y"), ("0.2", "y")]
    launched = plain.train("--env", "NOTE=y", LR="0.2")
    records = [read_record(plain.runs / done.run.name / "record.json") for done in (*runs, launched)]
    assert [record.recipe.env for record in records] == [{"LR": rate, "NOTE": "y"} for rate in ("0.1", "0.2", "0.2")]
    assert differing_parts(records[0].recipe, records[1].recipe) == ["env.LR"]
    assert differing_parts(records[1].recipe, records[2].recipe) == ["image.config"]
    assert launched.line("raw") == "[]"
    refused = plain_run(plain, "train.py")
    assert refused.complaint == "the variable LR is declared and has no value; set it, or write --env LR=VALUE"


def test_other_mounts_are_named(plain: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("hidden-path")
    done = plain_run(plain, "train.py", options=("-v", f"{folder}:/models:ro"))
    assert done.status == 0, done.err
    (mount,) = plain.only_run().environment.mounts or ()
    assert (mount.target, mount.read_only) == ("/models", True)
    assert folder.name not in (plain.runs / done.run.name / "record.json").read_text()
    launched = plain.train()
    assert read_record(plain.folder / launched.run / "record.json").environment.mounts == ()


@pytest.mark.parametrize("name", ["six.py", "sitecustomize.py"])
def test_a_mount_over_the_packages(plain: Project, tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = tmp_path_factory.mktemp("attack") / name
    path.write_text("import math\nmath.tan = lambda x: 42.0\n")
    target = f"/opt/samebits/venv/lib/python3.13/site-packages/{name}"
    done = plain_run(plain, "train.py", options=("-v", f"{path}:{target}:ro"))
    assert done.status == 2
    assert done.complaint.startswith("files changed after the image was built: /opt/samebits/venv/lib/python3.13/")
    os.utime(path, (1_767_225_600, 1_767_225_600))  # as all files in an image
    done = plain_run(plain, "train.py", options=("-v", f"{path}:{target}:ro"))
    assert done.status == 2
    assert "/opt/samebits/venv/lib/python3.13/site-packages" in done.complaint


@pytest.mark.parametrize("target", ["/usr/local/lib/other", "/lib/x86_64-linux-gnu/libother.so"])
def test_a_mount_over_the_system(plain: Project, tmp_path_factory: pytest.TempPathFactory, target: str) -> None:
    done = plain_run(plain, "train.py", options=("-v", f"{tmp_path_factory.mktemp('attack')}:{target}"))
    assert done.status == 2
    assert "is mounted over software of the image" in done.complaint
    assert json.loads((plain.runs / plain.only_run().id / "record.json").read_text())["environment"]["mounts"]


def test_a_file_that_a_later_layer_changed(plain: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Lock, source and labels are those of the image below it."""
    folder, tag = tmp_path_factory.mktemp("layer"), "samebits-test:changed"
    line = "RUN echo '#' >> /opt/samebits/venv/lib/python3.13/site-packages/six.py"
    (folder / "Dockerfile").write_text(f"FROM samebits:cpu\nUSER 0\n{line}\nUSER 1000\n")
    subprocess.run(["docker", "build", "-q", "-t", tag, folder], check=True, capture_output=True)
    try:
        done = plain_run(plain, "train.py", image=tag)
    finally:
        subprocess.run(["docker", "rmi", tag], check=True, capture_output=True)
    assert done.status == 2
    assert done.complaint == (
        "files changed after the image was built: /opt/samebits/venv/lib/python3.13/site-packages/six.py;"
        " use an image of `samebits build`"
    )
