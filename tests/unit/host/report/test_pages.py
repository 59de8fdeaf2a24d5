"""The pages: complete, escaped, without network, and the same bytes for the same runs."""

import base64
import hashlib
import html.parser
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samebits.core.liveness import Host, RunProcess
from samebits.core.record import Record
from samebits.core.run_dir import MARKER, RunDir
from samebits.host.report import ledger_view
from samebits.host.report.chart import MAX_POINTS, draw, draw_differences
from samebits.host.report.comparison_page import comparison_page
from samebits.host.report.index_page import index_page
from samebits.host.report.ledger_view import ALONE, DIFFERS, MAX_CELLS, ONLY_HERE, SAME, compare_views, read_view
from samebits.host.report.page import embedded_json, visible
from samebits.host.report.run_page import run_page
from samebits.host.runs.registry import run_as_json
from support.command import call
from support.pages import HOSTILE, hostile, losses, make
from support.records import with_environment, with_result

_VOID = {"meta", "br", "img", "link", "path"}


class Page(html.parser.HTMLParser):
    """A page as a parser reads it: its elements, its texts, and whether each element is closed."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open: list[tuple[str, str]] = []
        self.feed(content.decode())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID or tag == "path":
            self._open.append((tag, dict(attrs).get("id") or tag))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            name = self._open[-1][1]
            self.texts[name] = self.texts.get(name, "") + data


@pytest.fixture
def run(tmp_path: Path, example: Record) -> RunDir:
    return make(tmp_path / "a", example, losses(3.0, 2.0, 1.5))


def test_a_run(run: RunDir) -> None:
    page, record = run_page(run), run.read()
    text = page.decode()
    assert text.count(str(record.recipe.digest)) >= 2
    assert str(record.result_digest) in text
    assert f"samebits verify {record.id}" in text
    assert "loss: 1.5 at the end" in text
    assert "val_loss: 3 at the end" in text
    assert [setting.name in text for setting in record.environment.settings or ()].count(False) == 0
    assert len(page) <= 400_000


def test_what_weakens_a_guarantee(tmp_path: Path, example: Record) -> None:
    noticed = {
        "entropy": [{"path": "a.py", "line": 1, "call": "os.urandom", "times": 2}],
        "unpinned": [{"path": "a.py", "line": 2, "call": "open", "kind": "file", "what": "/x", "times": 1}],
        "script_settings": [{"path": "a.py", "line": 3, "name": "PYTHONHASHSEED", "value": "42"}],
        "features_off": {"shuffle": "unknown version"},
        "promise": {"profile": "native", "unproven": ["Conv2D float64"], "not_covered": ["pandas"]},
    }
    record = with_environment(example, lambda environment: environment.update(noticed))
    page = run_page(make(tmp_path / "a", record, losses(1.0))).decode()
    for text in ("a.py:1: os.urandom", "open reads the file /x", "PYTHONHASHSEED=42", "unknown version", "pandas"):
        assert text in page
    assert "Conv2D float64" in page
    assert "Nothing was noticed" not in page


def test_the_record_can_be_read_back(run: RunDir) -> None:
    assert json.loads(Page(run_page(run)).texts["record"]) == run_as_json(run)


def test_a_page_has_the_same_bytes_every_time(run: RunDir) -> None:
    first = run_page(run)
    time.sleep(1.1)
    assert run_page(run) == first


def _pages(tmp_path: Path, example: Record) -> list[bytes]:
    metrics = [{HOSTILE: (1.0).hex()}, {HOSTILE: HOSTILE}]
    one = make(tmp_path / "runs" / "a", hostile(example), metrics, code=HOSTILE)
    other = make(tmp_path / "runs" / "b", example, losses(1.0), code="")
    (tmp_path / "runs" / MARKER).touch()
    return [run_page(one), comparison_page(one, other), comparison_page(other, one), index_page(tmp_path / "runs")]


def test_what_a_run_says_is_escaped(tmp_path: Path, example: Record) -> None:
    for page in _pages(tmp_path, example):
        found = Page(page)
        assert [name for name, _ in found.elements].count("script") == 1 + (b'id="record"' in page)
        assert not any(name == "img" for name, _ in found.elements)
        assert not any(key.startswith("on") for _, attributes in found.elements for key in attributes)
        assert "\x1b" not in page.decode()
        assert "\u202e" not in page.decode()


def test_a_page_needs_no_network_and_runs_only_its_own_script(tmp_path: Path, example: Record) -> None:
    for page in _pages(tmp_path, example):
        found = Page(page)
        assert not any({"src", "href", "style"} & attributes.keys() for _, attributes in found.elements)
        (policy,) = (a["content"] for name, a in found.elements if a.get("http-equiv") == "Content-Security-Policy")
        assert policy is not None
        assert policy.startswith("default-src 'none'; ")
        for part in ("style", "script"):
            digest = base64.b64encode(hashlib.sha256(found.texts[part].encode()).digest()).decode()
            assert f"{part}-src 'sha256-{digest}'" in policy


def test_two_runs_that_differ(tmp_path: Path, example: Record, run: RunDir) -> None:
    other = make(tmp_path / "b", with_result(example, _another), losses(3.0, 2.5, 1.5), code="print(2)\n")
    page = comparison_page(run, other).decode()
    order = ["different", "First divergence", "fit 0, epoch 1", "Inputs that differ", "-print(1)", "+print(2)"]
    places = [page.index(text) for text in [*order, "Results that differ", "loss: distance"]]
    assert places == sorted(places)
    assert "<td>metrics.loss</td><td>2</td><td>2.5</td>" in page


def _another(result: dict[str, Any]) -> None:
    result["models"][0]["name"] = "another"


def test_two_equal_runs(tmp_path: Path, example: Record, run: RunDir) -> None:
    page = comparison_page(run, make(tmp_path / "b", example, losses(3.0, 2.0, 1.5))).decode()
    assert "identical" in page
    assert "The ledgers agree in every line" in page
    assert page.count("None.") == 2
    assert "distance</h4>" not in page


def test_the_cells_of_a_ledger(tmp_path: Path, example: Record, run: RunDir) -> None:
    assert [cell.state for cell in read_view(run)[1]] == [ALONE] * 4
    other = make(tmp_path / "b", example, losses(3.0, 2.5))
    assert [cell.state for cell in compare_views(run, other)[2]] == [SAME, DIFFERS, DIFFERS, ONLY_HERE]


def test_a_cell_of_several_lines_shows_the_one_that_differs(
    tmp_path: Path, example: Record, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_view, "MAX_CELLS", 2)
    other = make(tmp_path / "b", example, losses(3.0, 2.5, 1.5))
    assert [(cell.lines, cell.state) for cell in compare_views(run, other)[2]] == [(2, DIFFERS), (2, SAME)]


def test_a_long_ledger(tmp_path: Path, example: Record) -> None:
    """A page stays small, and names what it leaves out."""
    run = make(tmp_path / "a", example, [])
    line = json.dumps({"event": "epoch", "fit": 0, "epoch": 0, "metrics": {"loss": (1.0).hex()}})
    with run.ledger.open("w") as file:
        file.writelines(line.replace('"epoch": 0', f'"epoch": {number}') + "\n" for number in range(100_000))
    start = time.process_time()
    page = run_page(run)
    assert time.process_time() - start < 10  # 2 s on an idle machine
    assert len(page) < 5_000_000
    assert f"100000 epochs, of which {MAX_POINTS} are drawn" in page.decode()
    assert len(re.findall(r"<i ", page.decode())) <= MAX_CELLS


def test_a_ledger_that_is_no_ledger(run: RunDir) -> None:
    run.ledger.write_bytes(b'[1]\n{"event":"epoch","fit":0,"epoch":"x","metrics":3}\n\xff\n{"torn')
    view, cells = read_view(run)
    assert (view.fits, view.lines, len(cells)) == ({}, 1, 1)
    run.ledger.unlink()
    assert read_view(run)[1] == []


def test_curves() -> None:
    assert draw("loss", {"loss": [(0, float("nan"))]}) is None
    chart = draw("loss", {"loss": [(0, 1.0), (1, float("inf")), (2, 1.0)]})
    assert chart is not None
    assert chart.curves[0].path.count("M") == 2, "a value that cannot be drawn leaves a gap"
    constant = draw("loss", {"loss": [(0, 0.0)]})
    assert constant is not None
    assert constant.curves[0].path.count("M") == 1


def test_no_peak_is_lost() -> None:
    points = [(epoch, 1.0) for epoch in range(50_000)]
    points[777] = (777, 9.0)
    chart = draw("loss", {"loss": points})
    assert chart is not None
    assert f"{chart.top:.1f}" in chart.curves[0].path
    assert chart.note == f"50000 epochs, of which {MAX_POINTS} are drawn"


def test_distances() -> None:
    one, same, other = ({"loss": [(0, 1.0), (1, value)]} for value in (2.0, 2.0, 2.001))
    assert draw_differences("loss", one, same) is None
    longer = {"loss": [*other["loss"], (2, 1.0)]}
    chart, aligned = draw_differences("loss", one, other), draw_differences("loss", one, longer)
    assert chart is not None
    assert aligned is not None
    assert ([tick.text for tick in chart.across], [tick.text for tick in aligned.across]) == (
        ["0", "1"],
        ["0", "1", "2"],
    )
    assert chart.curves[0].last == "0.001"
    assert [tick.text for tick in chart.up] == ["1e-3", "1e-2"] or [tick.text for tick in chart.up] == ["1e-4", "1e-3"]


def test_all_runs(tmp_path: Path, example: Record) -> None:
    for name in ("a", "b"):
        make(tmp_path / name, replace(example, id=name), losses(1.0))
    make(tmp_path / "c", replace(with_result(example, _another), id="c"), losses(1.0), code="")
    text = index_page(tmp_path).decode()
    assert ">the same result in 2 runs<" in text
    assert ">one run<" in text
    assert "<li>1 recipe gave the same result in every run</li>\n<li>1 recipe ran once</li>" in text
    record = example.environment.system
    assert record is not None
    assert text.count(f"<td>{record.cpu.model} ({record.cpu.instruction_set})") == 3
    assert text.count("<td>loss 1, val_loss 2</td>") == 3
    make(tmp_path / "d", replace(with_result(example, _another), id="d"), losses(1.0))
    assert "2 results in 3 runs" in index_page(tmp_path).decode()


def test_on_how_many_machines_a_recipe_ran(tmp_path: Path, example: Record) -> None:
    launcher = RunProcess(boot="b", namespace=1, pid=1, start=1)
    for name in ("one", "other"):
        host = Host(machine=name, launcher=launcher)
        make(tmp_path / name, replace(example, id=name, host=host), losses(1.0))
    assert "the same result in 2 runs, on 2 machines" in index_page(tmp_path).decode()


def test_control_characters_are_written_out() -> None:
    assert visible("a\x1b[31m\u202eb\n\ud800") == "a\\x1b[31m\\u202eb\n\\ud800"
    assert visible("äß漢") == "äß漢"
    assert visible(3) == 3


def test_the_command(run: RunDir, tmp_path: Path) -> None:
    done = call("report", "a", "--runs", ".", folder=tmp_path)
    assert (done.status, done.out) == (0, "a.samebits.html\n")
    assert (tmp_path / "a.samebits.html").read_bytes() == run_page(run)
    assert call("report", "--all", "--runs", ".", folder=tmp_path).out == "runs.samebits.html\n"
    same = call("diff", "a", "a", "--runs", ".", "--html", "two.html", folder=tmp_path)
    assert (same.status, (tmp_path / "two.html").read_bytes()) == (0, comparison_page(run, run))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("report",), "name a run, two runs, or --all; `samebits list` shows all runs"),
        (("report", "a", "--all"), "name a run, two runs, or --all; `samebits list` shows all runs"),
        (
            ("report", "a", "-o", "none/x.html"),
            "cannot write none/x.html: it is a folder, or its folder does not exist",
        ),
        (("diff", "a", "a", "--html", "."), "cannot write .: it is a folder, or its folder does not exist"),
        (("report", "z"), "there is no run z"),
    ],
)
def test_bad_input(words: tuple[str, ...], message: str, run: RunDir, tmp_path: Path) -> None:
    assert run.record.exists()
    done = call(*words, "--runs", ".", folder=tmp_path)
    assert done.status == 2
    assert message in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("text", ["</script>", "</script ", "<!--<script>", "]]>", "&lt;"])
def test_embedded_data_hold_no_tag(text: str) -> None:
    """A browser ends a script element, or takes it for a comment, by what stands in it as a tag alone."""
    found = embedded_json({text: text})
    assert re.search(r"[<>&]", found) is None
    assert json.loads(found) == {text: text}
