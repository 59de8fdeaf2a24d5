"""Short runs with perturbations: each bad script is found with its cause; no good script is reported."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.environment import NondeterministicOpUse
from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import Fields
from samebits.core.script_uses import EntropyUse
from samebits.core.trial import CLOCK, CORES, FOLDERS, PERTURBATIONS, USER, Trial
from samebits.host.lint.findings import Finding
from samebits.host.lint.linter import LintResult
from samebits.host.probe.diagnosis import ITSELF, hinted_perturbations, likely_causes, unexplained
from samebits.host.probe.experiment import ProbeDivergence, ProbeResult
from samebits.host.rerun.causes import Cause
from support.command import SCRIPTS, Done, call
from support.lanes import long_tail

_BAD = sorted((SCRIPTS / "check" / "bad").glob("*.py"))
_GOOD = sorted((SCRIPTS / "check" / "good").glob("*.py"))
_USUAL = {path for path in (*_BAD, *_GOOD) if path.stem in ("own_loop", "race", "weighted_counts")}
"""One of each kind: found by one change, by another, by none, refused; and one that is the same."""


def _check(folder: Path, script: Path, *options: str) -> Done:
    """`samebits check train.py …` beside three data files."""
    data = folder / "data"
    data.mkdir()
    for name in ("a.txt", "b.txt", "c.txt"):
        (data / name).write_text(name)
    (folder / "train.py").write_text(script.read_text())
    return call("check", "train.py", "--data", "data", "--runtime", "venv", *options, folder=folder)


@pytest.mark.cold
@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("script", long_tail(_BAD, _USUAL), ids=lambda path: path.stem)
def test_bad(tmp_path: Path, script: Path) -> None:
    """The first line of each script is the expected result."""
    kind, _, wanted = script.read_text().splitlines()[0].removeprefix("# ").partition(": ")
    done = _check(tmp_path, script, "--run", "--format", "json")
    assert done.status == 1, done.err
    found = json.loads(done.out)["run"]
    assert not found["same"]
    if kind == "fails":
        assert wanted in f"{found['failure']} {found['undetermined']}"
    else:
        assert found["because"] == wanted
        assert found["where"].startswith("fit 0, epoch 0, step 0")
        assert found["causes"]
        assert found["suspects"]
    assert not list(tmp_path.glob("runs*"))


@pytest.mark.cold
@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("script", long_tail(_GOOD, _USUAL), ids=lambda path: path.stem)
def test_good(tmp_path: Path, script: Path) -> None:
    done = _check(tmp_path, script, "--run")
    assert done.status == 0, done.out + done.err
    last = done.out.splitlines()[-1]
    assert last.startswith(
        "two short runs are identical with a different hash seed, directory order, cores, clock, user, "
    )
    assert re.search(": (5 steps; later steps were not run|[34] observed steps, up to the end of .*)$", last)


_TAKEN = EntropyUse(path="train.py", line=4, call="np.random.default_rng()", times=2)
_FINDINGS = tuple(
    Finding(path="train.py", line=line, column=1, code=code, about=about)
    for line, code, about in ((4, "SB101", "default_rng()"), (7, "SB203", "listdir()"), (9, "SB601", "a decision"))
)
_CHECKED = LintResult(sources={"train.py": ""}, findings=_FINDINGS[:2], ignored=_FINDINGS[2:])
_CAUSE = Cause(kind="output", tensor="noise", layer="noise")


@pytest.mark.parametrize(
    ("cause", "places"),
    [(FOLDERS, ["train.py:7:1"]), (CLOCK, ["train.py:9:1"]), (ITSELF, ["train.py:4", "train.py:4:1", "train.py:9:1"])],
)
def test_likely_causes_belong_to_the_cause(cause: str, places: list[str]) -> None:
    """An ignored finding is a likely cause, too: the comment may be wrong."""
    found = list(likely_causes(cause, _CHECKED, [_TAKEN]))
    assert [line.partition(": ")[0] for line in found] == places


def test_advice_without_a_likely_cause() -> None:
    nothing = LintResult(sources={"train.py": "import time\n"})
    for cause in (*PERTURBATIONS, ITSELF, "no single one, but together"):
        (hint,) = likely_causes(cause, nothing, [])
        assert hint.startswith("look for ")


def test_lines_that_match_a_pattern() -> None:
    """If no rule finds anything, matching lines come before the advice."""
    text = "import time\nfrom datetime import date\nrate = 0.1 * date.today().day  # now(\nprint(3)\n"
    found = list(likely_causes(CLOCK, LintResult(sources={"train.py": text}), []))
    assert found == [
        "train.py:3: rate = 0.1 * date.today().day  # now(",
        "look for a date or a time that the training depends on",
    ]


def test_perturbations_to_try_alone_first() -> None:
    """Those that findings or patterns point to."""
    assert hinted_perturbations(_CHECKED) == [
        FOLDERS,
        CORES,
        CLOCK,
    ]  # SB601 depends on the speed, too
    assert hinted_perturbations(LintResult(sources={"train.py": "from os import getuid\nprint(getuid())\n"})) == [USER]
    assert hinted_perturbations(LintResult(sources={"train.py": "print(id(3))\n"})) == []


def test_known_draws_are_not_reported_twice() -> None:
    """Nor ignored ones; a finding of another rule in the same line hides nothing."""
    others = [EntropyUse(path="train.py", line=line, call="os.urandom(3)", times=1) for line in (7, 9, 11)]
    checked = replace(_CHECKED, allowed=frozenset({("train.py", 9, "SB701"), ("train.py", 11, "SB203")}))
    assert list(unexplained([_TAKEN, *others], checked)) == [others[0], others[2]]


def test_output_formats() -> None:
    operation = NondeterministicOpUse(operation="Timestamp", layer="", way="leave it", gpu_only=False, seconds=0.002)
    tried = ProbeResult(
        steps=5,
        divergence=ProbeDivergence(where="fit 0, epoch 0, step 1", causes=(_CAUSE, _CAUSE)),
        cause=CLOCK,
        likely_causes=("look for a date",),
        nondeterministic_ops=(operation,),
        entropy=(_TAKEN,),
    )
    assert not tried.passed
    assert list(tried.lines()) == [
        "train.py:4: np.random.default_rng() draws unseeded randomness (observed in the run)",
        "Timestamp has no deterministic implementation on any device: leave it; on this CPU it takes 2.00 ms",
        "two short runs diverge at fit 0, epoch 0, step 1: output noise (layer noise)",
        "    also output noise (layer noise)",
        "cause: clock",
        "likely cause: look for a date",
    ]
    assert [(found.code, found.line) for found in tried.findings("train.py")] == [
        ("SB701", 4),
        ("SB702", 1),
        ("SB703", 1),
    ]
    assert json.loads(json.dumps(tried.to_dict()))["causes"][0]["layer"] == "noise"
    failed = ProbeResult(steps=5, failure="the script failed: ValueError")
    assert (failed.passed, list(failed.lines())) == (False, ["the script failed: ValueError"])
    assert failed.to_dict()["same"] is None
    assert [found.code for found in failed.findings("train.py")] == ["SB704"]


def test_a_trial_comes_back_as_it_was_written() -> None:
    for trial in (Trial(), Trial(steps=3, changed=(CLOCK, FOLDERS), without=("seeds",))):
        assert Trial.from_fields(Fields(trial.to_dict())) == trial
    with pytest.raises(RecordError, match=r"^'trial\.changed': unknown perturbation 'weather'"):
        Trial.from_fields(Fields({"trial": {"changed": ["weather"]}}).inner("trial"))
    with pytest.raises(InputError, match="at least one step, not 0"):
        Trial(steps=0)


@pytest.mark.cold
@pytest.mark.usefixtures("locked")
def test_as_sarif(tmp_path: Path) -> None:
    """With the findings of the runs."""
    done = _check(tmp_path, SCRIPTS / "check" / "bad" / "unseeded.py", "--run", "--format", "sarif")
    results = json.loads(done.out)["runs"][0]["results"]
    assert [(item["ruleId"], item["locations"][0]["physicalLocation"]["region"]["startLine"]) for item in results] == [
        ("SB701", 6),
        ("SB702", 1),
    ]


@pytest.mark.cold
@pytest.mark.usefixtures("locked")
def test_a_script_that_trains_nothing(tmp_path: Path) -> None:
    """Then its output files are compared."""
    script = tmp_path / "script.py"
    script.write_text("import os\nopen(os.environ['SAMEBITS_OUTPUT'] + '/x', 'w').write(str(os.cpu_count()))\n")
    (tmp_path / "project").mkdir()
    done = _check(tmp_path / "project", script, "--run")
    assert done.status == 1
    assert "two short runs diverge at the end: x differ" in done.out
    assert "cause: cores" in done.out
