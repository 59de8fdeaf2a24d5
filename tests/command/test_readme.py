"""Every command that the README and the pages show is run, as it stands there."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from samebits.core.run_config import read_config
from samebits.host.launch.venv import locked_python
from samebits.host.rerun.golden import Golden
from support.command import ROOT, Project

pytestmark = pytest.mark.cold

README = (ROOT / "README.md").read_text(encoding="utf-8")
# The pages in the order in which the README lists them, which is the order of their commands.
LINKED = dict.fromkeys(re.findall(r"\]\((docs/[a-z-]+\.md)\)", README))
PAGES = [ROOT / name for name in LINKED if name != "docs/tutorial.md"]  # see test_tutorial


def shown(texts: list[str]) -> list[str]:
    """The commands in the texts' console blocks; those of `make` apart, see ENGINE."""
    blocks = [block for text in texts for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)]
    return list(dict.fromkeys(line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")))


IMAGE_PAGE = ROOT / "docs" / "images.md"
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
COMMANDS = shown([README, *TEXTS.values()])
IMAGES = [command for command in shown([TEXTS[IMAGE_PAGE]]) if "make" not in command.split()]
SCRIPT = [command for command in COMMANDS if "make" not in command.split() and command not in IMAGES]
ENGINE = [command for command in COMMANDS if command in {"make engine", "make base-image"} or "make image" in command]


def test_every_page_is_linked() -> None:
    """By the home page of the site; what README does not list has no commands of its own, or has another test."""
    pages = set((ROOT / "docs").glob("*.md"))
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    linked = {ROOT / "docs" / name for name in re.findall(r"\]\(([a-z-]+\.md)\)", index)}
    assert linked | {ROOT / "docs" / "index.md"} == pages
    assert {page.name for page in pages - set(PAGES) if shown([page.read_text(encoding="utf-8")])} == {"tutorial.md"}


def test_every_link_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def run(command: str, folder: Path) -> str:
    """Run a line as a shell would, with the command on the path."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # `make test` calls us
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**ours, "PATH": path},
        capture_output=True,
        text=True,
        timeout=2400,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_command_is_known() -> None:
    """A command that is added to a page must be run by one of the tests below."""
    assert set(COMMANDS) == {"make train", "make test", *SCRIPT, *IMAGES, *ENGINE}
    assert (len(SCRIPT), len(IMAGES), len(ENGINE)) == (26, 6, 2)


def test_the_commands_for_a_script_of_ones_own(in_docker: Project) -> None:
    _copy_families(in_docker.folder / "examples" / "families", group="losses")
    outputs = {command: run(command, in_docker.folder) for command in SCRIPT}
    trained = [output.splitlines()[-1] for command, output in outputs.items() if _trains(command)]
    checks = [output.splitlines() for command, output in outputs.items() if " check " in command]
    assert [lines[0].rpartition(", in ")[0] for lines in checks] == ["0 found, 0 ignored"] * 4
    assert checks[1][1].endswith(": 5 steps; later steps were not run")
    assert checks[2][-2].startswith("resumed after phase 0 after 1 epoch in a new process, it reaches the same bits: ")
    assert checks[3][-1].startswith("with all settings a step takes ")
    assert len(trained) == 4
    assert re.fullmatch(r"result sha256:[0-9a-f]{64}", trained[0])
    assert trained[0] == trained[1], "the launcher and plain docker run must agree"
    assert trained[0] != trained[3], "the portable profile computes otherwise"
    verified = [output.splitlines()[-1] for command, output in outputs.items() if " verify " in command]
    assert [line.partition(":")[0] for line in verified[:3]] == ["identical"] * 3
    assert verified[3:] == ["identical (2 of 2 segments)", "identical in 1 of 2 segments, drawn with seed 0"]
    assert outputs["samebits attest examples/families"].splitlines()[-1] == "identical"


def _trains(command: str) -> bool:
    return "train.py" in command and " check " not in command


def _copy_families(target: Path, *, group: str) -> None:
    """The folder that `samebits attest` is shown with; one group of it, as all take minutes."""
    shutil.copytree(ROOT / "examples" / "families", target)
    golden = Golden.read(target / "golden.json")
    Golden(rows={group: golden.rows[group]}, confirmed=[]).write(target / "golden.json")


@pytest.mark.slow  # test_rebuild and test_image build twice and again what is smaller
def test_the_commands_for_images(in_docker: Project) -> None:
    """Two builds from nothing and a rebuild: some minutes."""
    assert in_docker.train().status == 0
    outputs = {command: run(command, in_docker.folder) for command in IMAGES}
    for command in ("samebits build --check", "samebits rebuild last"):
        verdict, wanted, found = outputs[command].split()
        assert (verdict, wanted) == ("identical", found)
    assert outputs["samebits build --check"] == outputs["samebits rebuild last"]


def test_make_train_twice_and_in_both_runtimes(engine: str, tmp_path: Path) -> None:
    assert engine
    first, second = (run("make train", ROOT).splitlines() for _ in range(2))
    assert first[-3:-2] != second[-3:-2]
    assert first[-2:] == second[-2:]
    pasted = re.search(r"\$ make train\n…\n(.*?)```", README, re.DOTALL)
    assert pasted is not None
    shapes = [re.sub(r"[0-9a-f]{8,}|\d+", "#", line) for line in pasted[1].splitlines()]
    assert shapes == [re.sub(r"[0-9a-f]{8,}|\d+", "#", line) for line in second[-4:]]
    outside = run(f"env -u DOCKER_HOST DOCKER_CONFIG={tmp_path} make ENGINE=: train", ROOT)  # where no engine answers
    assert outside.splitlines()[-1] == first[-1]
    assert outside.splitlines()[-2] != first[-2], "a virtual environment has another recipe"
    assert float(re.findall(r"^test accuracy: (.*)$", "\n".join(first), re.MULTILINE)[0]) >= 0.97


def test_the_commands_for_an_engine(engine: str, tmp_path: Path) -> None:
    """They end at once where their work is done, as it is wherever `make test` started the engine."""
    private = f"unix://{ROOT}/.engine/docker.sock"
    if engine != private:
        pytest.skip(f"another engine is in use, {engine}; starting a second one would take its network")
    for command in ENGINE:
        run(f"export XDG_CONFIG_HOME={tmp_path}; {command}", ROOT)
    assert f'docker_host = "{engine}"' in (tmp_path / "samebits" / "engine.toml").read_text()


@pytest.mark.slow  # other CPUs may give other digits; that runs do not follow the cores is tested elsewhere
def test_the_table_of_seeds(locked: None, tmp_path: Path) -> None:
    """Plain Python gives other bits on one core than on two; samebits gives the same."""
    assert locked is None
    script, data = ROOT / "examples" / "seeding" / "train.py", ROOT / "examples" / "digits" / "data"
    runs = f"{script} --data {data} --runtime venv --runs {tmp_path / 'runs'}"
    for command, bits in ((f"{locked_python()} {script}", 2), (f"samebits train {runs}", 1)):
        printed = [run(f"taskset --cpu-list {cores} {command}", tmp_path).splitlines()[0] for cores in ("0,1", "0")]
        assert len(set(printed)) == bits
        assert all(f"`{digest}` {loss}" in README for digest, loss in map(str.split, printed))


def test_make_test_is_what_ci_runs() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[-2:] == ["export SAMEBITS_REQUIRE_ENGINE=1", "make test"]


def test_the_options_file(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", TEXTS[ROOT / "docs" / "your-script.md"], re.DOTALL)
    (tmp_path / "samebits.toml").write_text(block)
    found = read_config(tmp_path / "samebits.toml")
    assert len(found) == len(tomllib.loads(block)) == 9


def test_the_table_of_settings_is_complete() -> None:
    from samebits.core.determinism_profile import Profile

    page = TEXTS[ROOT / "docs" / "settings.md"]
    for profile in (Profile(), Profile(name="portable", threads=1), Profile(device="gpu")):
        for setting in profile.settings:
            assert f"`{setting.name}`" in page, setting.name
            assert setting.value in page, setting.name
