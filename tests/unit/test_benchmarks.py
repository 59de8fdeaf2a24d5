"""The kept figures, the tables that are written from them, and what makes `make bench` fail."""

import ast
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from support.command import ROOT

# At the end, as one of them has the name of a module of Python.
sys.path.append(str(ROOT / "benchmarks"))
import bench
import instructions
import loads
import measuring
import overhead
import submission
from figures import Figure, Measurement, Origin, regressions, replaced_tables

ORIGIN = Origin(
    command="make bench ONLY=made",
    samebits="0.1.0",
    commit="abc",
    date="2026-11-28",
    cpu="a CPU",
    cores=2,
    instructions="x86-64-v3",
    python="3.11.7",
    others=0.02,
    idle=True,
)
RATIO = Figure(table="made", row="one", column="ratio", values=(1.00, 1.01, 1.02, 1.03), most=1.05)


LISTED = "<!-- figures of all -->\n<!-- end of all -->\n"


def measurement(*figures: Figure) -> Measurement:
    return Measurement(origin=ORIGIN, figures=figures)


def test_the_page_shows_what_is_kept() -> None:
    page = (ROOT / "BENCHMARKS.md").read_text()
    for name in bench.NAMES:
        assert replaced_tables(page, name, bench.tables_of(name)) == page, f"make bench ONLY={name} KEEP=1"
    assert replaced_tables(page, bench.LIST, bench.listed()) == page, "python benchmarks/bench.py --tables"
    assert {path.stem for path in bench.KEPT.glob("*")} <= set(bench.NAMES)


def test_every_benchmark_is_a_module_and_a_target() -> None:
    for name in bench.NAMES:
        tree = ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text())
        assert "measure" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    (targets,) = re.findall(r"^MEASURED := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert tuple(targets.split()) == bench.NAMES


def test_a_table() -> None:
    seconds = replace(RATIO, column="time", unit="s", values=(0.01234,), most=None)
    size = Figure(table="made", row="two", column="time", values=(1234.5,), unit="MiB", least=2000)
    assert measurement(seconds, RATIO, size).tables() == (
        "| made | time | ratio |\n"
        "|---|---|---|\n"
        "| one | 0.0123 s | 1.015 (1.008 to 1.022); ≤ 1.05: met |\n"
        "| two | 1,234 MiB; ≥ 2,000: **missed** |  |\n\n"
        "Medians of 1 to 4 rounds, with their quarters. a CPU, x86-64-v3, 2 cores, which nothing else used; "
        "Python 3.11.7; samebits 0.1.0 at abc, 2026-11-28.\n"
    )


def test_a_file_holds_all_values(tmp_path: Path) -> None:
    found = measurement(RATIO, replace(RATIO, row="two", column="", values=(1 / 3,), most=None, least=0.25))
    found.write(tmp_path / "made.json")
    assert Measurement.read(tmp_path / "made.json") == found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"version": 1', '"version": 2'),
        ('"values": [1.0,', '"values": ["1.0",'),
        ('"most"', '"mots"'),
        ('"idle": true', '"idle": 1, "more": 2'),
        ("[1.0, 1.01, 1.02, 1.03]", "[]"),
        ("[1.0, 1.01", "[NaN, 1.01"),
    ],
)
def test_a_file_of_another_form_is_refused(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    measurement(RATIO).write(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=r"^.*made\.json: "):
        Measurement.read(path)


def test_two_figures_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="twice: made / one / ratio"):
        measurement(RATIO, RATIO)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((1.04, 1.05), None),
        ((1.04, 1.08), None),  # missed by 0.01, and the rounds are 0.02 from their median
        ((1.06, 1.061), "1.060 (1.060 to 1.061); ≤ 1.05: **missed**; it was 1.015 (1.008 to 1.022); ≤ 1.05: met"),
        ((1.2,), "1.200; ≤ 1.05: **missed**; it was 1.015 (1.008 to 1.022); ≤ 1.05: met"),
    ],
)
def test_a_goal_that_was_met(values: tuple[float, ...], said: str | None) -> None:
    found = [*regressions(measurement(RATIO), measurement(replace(RATIO, values=values)))]
    assert found == ([f"made / one / ratio: {said}"] if said else [])


def test_a_least_goal() -> None:
    kept, found = (replace(RATIO, most=None, least=0.8, values=values) for values in ((0.9,), (0.7,)))
    assert [*regressions(measurement(kept), measurement(found))] == [
        "made / one / ratio: 0.700; ≥ 0.8: **missed**; it was 0.900; ≥ 0.8: met"
    ]


def test_a_goal_that_was_missed_before_or_is_none() -> None:
    missed, none = replace(RATIO, values=(2.0,)), replace(RATIO, row="two", most=None)
    found = measurement(replace(missed, values=(3.0,)), replace(none, values=(3.0,)))
    assert not [*regressions(measurement(missed, none), found)]


def test_a_figure_that_vanished() -> None:
    (fault,) = regressions(measurement(RATIO), measurement(replace(RATIO, row="two")))
    assert fault.startswith("made / one / ratio: not measured any more")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A benchmark of one figure, whose values a test sets, with a page and kept figures of its own."""
    told = SimpleNamespace(values=(1.0,), page=tmp_path / "page.md", kept=tmp_path)
    module = ModuleType("made")
    module.measure = lambda _: [replace(RATIO, values=told.values)]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made", module)
    monkeypatch.setattr(bench, "NAMES", ("made",))
    monkeypatch.setattr(bench, "listed", lambda: "")
    monkeypatch.setattr(bench, "PAGE", told.page)
    monkeypatch.setattr(bench, "KEPT", told.kept)
    monkeypatch.setattr(bench, "cores_in_use", partial(measuring.cores_in_use, during=0.05))
    told.page.write_text(f"{LISTED}before\n<!-- figures of made -->\n<!-- end of made -->\nafter\n")
    return told


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bench.py", *words])
    return bench.main()


def test_keep_then_fail(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "--busy", "--keep") == 0
    page = made.page.read_text()
    assert page == f"{LISTED}before\n<!-- figures of made -->\n{bench.tables_of('made')}<!-- end of made -->\nafter\n"
    assert "| one | 1.000; ≤ 1.05: met |" in page
    made.values = (1.04,)
    assert called(monkeypatch, "--busy") == 0
    made.values = (1.1,)
    capsys.readouterr()
    assert called(monkeypatch, "--busy") == 1
    assert "bench: made / one / ratio: 1.100; ≤ 1.05: **missed**; it was 1.000" in capsys.readouterr().err
    assert made.page.read_text() == page


def test_beside_other_work(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "IDLE_CORES", -1.0)
    assert called(monkeypatch, "--keep") == 2
    assert "bench: other work uses" in capsys.readouterr().err
    assert not list(made.kept.glob("*.json"))
    assert called(monkeypatch, "--keep", "--busy") == 0
    assert not Measurement.read(made.kept / "made.json").origin.idle
    assert "**not idle**" in made.page.read_text()


def test_small_figures_are_neither_kept_nor_compared(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "--busy", "--keep", "--small") == 2
    assert called(monkeypatch, "--busy", "--keep") == 0
    made.values = (1.1,)
    capsys.readouterr()
    assert called(monkeypatch, "--busy", "--small") == 0
    assert "| one | 1.100 |\n" in capsys.readouterr().out, "they meet or miss nothing"


def test_a_benchmark_that_fails(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = partial(measuring.call, sys.executable, "-c", "raise SystemExit('no room')")
    monkeypatch.setattr(sys.modules["made"], "measure", lambda _: [fails()])
    assert called(monkeypatch, "--busy", "--keep") == 1
    assert "no room" in capsys.readouterr().err
    assert not list(made.kept.glob("*.json"))


def test_rounds_run_in_both_orders() -> None:
    order: list[str] = []

    def run(name: str) -> int:
        order.append(name)
        return len(order)

    actions = {name: partial(run, name) for name in "ab"}
    assert measuring.interleaved(actions, 3, warm=1) == {"a": [4, 5, 8], "b": [3, 6, 7]}
    assert "".join(order) == "abbaabba"


def test_a_call() -> None:
    busy = "import time; print('rate 2.5'); x = bytearray(50 << 20)\nwhile time.process_time() < 0.3: pass"
    done = measuring.call(sys.executable, "-c", busy)
    assert done.numbers("rate") == [2.5]
    assert done.processor >= 0.3
    assert done.seconds >= done.processor * 0.9
    assert 50 < done.peak < 500


def test_cores_in_use() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        assert measuring.cores_in_use(0.5) > 0.5
        busy.kill()


def test_loads_of_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes one loads the library, and the child that it forks does not count."""
    monkeypatch.setattr(loads, "LIBRARY", "_sqlite3")
    load = "import _sqlite3, os, time; os.fork(); time.sleep(0.7)"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {load!r}])"
    assert loads.watched(partial(measuring.call, sys.executable, "-c", start)).loads == 1
    assert loads.watched(partial(measuring.call, sys.executable, "-c", "import time; time.sleep(0.3)")).loads == 0


@pytest.mark.parametrize(
    ("values", "interval"),
    [((1, 2, 3, 4, 5), None), ((1, 2, 3, 4, 5, 6), (1, 6)), (range(1, 13), (3, 10)), (range(1, 26), (8, 18))],
)
def test_the_interval_of_a_median(values: tuple[float, ...], interval: tuple[float, float] | None) -> None:
    # The ranks of the sign test's tables.
    assert measuring.confidence(values) == interval


@pytest.mark.parametrize("added", [1.0, 1.02])
def test_an_added_cost_of_a_step_is_noticed(added: float) -> None:
    """Of rounds that scatter by half a percent."""
    noise = random.Random(7)

    def trained(start: float, step: float) -> overhead.Split:
        short, long = (
            [(start + epochs * overhead.STEPS * step) * noise.gauss(1, 0.003) for _ in range(25)] for epochs in (5, 65)
        )
        return overhead.Split(short=short, long=long, epochs=(5, 65))

    found = {overhead.EQUAL: trained(3, 0.005), overhead.OURS: trained(3.2, 0.005 * added)}
    figures = {figure.name: figure for figure in overhead.compared("made", found, "s", goals=True)}
    ratio = figures[f"made / {overhead.OURS} / ratio of a step"].values
    low, high = measuring.confidence(ratio) or (0, 0)
    assert (low > 1.005) == (added > 1)
    assert low < added < high
    known = figures[f"made / {overhead.OURS} / known to ±"]
    assert known.value == pytest.approx(50 * (high - low), rel=0.01)
    assert known.excess <= 0
    assert figures[f"made / {overhead.OURS} / start, more"].value == pytest.approx(0.2, abs=0.1)


def test_what_a_submission_adds_in_parts() -> None:
    """Slurm's own part counts for the whole, and not for that of samebits."""
    job = {"submitted": 0.5, "started": 1.75, "begun": 2.0}
    found = {figure.row: (figure.value, figure.goal) for figure in submission.figures([{"begun": 0.25}], [job])}
    assert found == {
        submission.HERE: (0.25, ""),
        submission.JOB: (2.0, ""),
        submission.ADDED: (1.75, "≤ 1: **missed**"),
        submission.SLURM: (1.25, ""),
        submission.OURS: (0.5, "≤ 1: met"),
    }


def test_one_round_has_no_interval() -> None:
    split = overhead.Split(short=[1.0], long=[2.0], epochs=(1, 2))
    figures = overhead.compared("made", {overhead.EQUAL: split, overhead.OURS: split}, "s")
    assert {figure.column for figure in figures} == {"start", "start, more", "a step", "ratio of a step"}


def test_an_added_cost_is_noticed() -> None:
    """A fiftieth more in each step, beside a start that differs between rounds."""
    found = {
        name: overhead.Split(short=[1 + work, 2 + work], long=[1 + 4 * work, 2 + 4 * work], epochs=(1, 4))
        for name, work in {overhead.EQUAL: 1.0, overhead.OURS: 1.02}.items()
    }
    figures = {figure.name: figure for figure in overhead.compared("made", found, "s")}
    assert figures[f"made / {overhead.OURS} / ratio of a step"].value == pytest.approx(1.02)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_an_added_cost_is_noticed_by_counting(tmp_path: Path) -> None:
    """A fiftieth more of work in each epoch, of a real program."""
    program = "import sys\nfor _ in range(int(float(sys.argv[1]) * int(sys.argv[2]))): pass"

    def counted(work: int, epochs: int) -> float:
        command = (sys.executable, "-S", "-c", program, str(work), str(epochs))
        return instructions.instructions(command, {"PYTHONHASHSEED": "0"}, tmp_path)

    found = {
        name: overhead.Split(short=[counted(work, 1)], long=[counted(work, 4)], epochs=(1, 4))
        for name, work in {overhead.EQUAL: 1_000_000, overhead.OURS: 1_020_000}.items()
    }
    figures = {figure.name: figure for figure in overhead.compared("made", found, "million")}
    assert figures[f"made / {overhead.OURS} / ratio of a step"].value == pytest.approx(1.02, abs=0.002)
