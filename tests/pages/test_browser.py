"""The pages in a real browser: their own script runs and no other, nothing is requested, everybody can read them."""

from pathlib import Path

import pytest

from samebits.core.record import read_record
from samebits.core.run_dir import MARKER
from samebits.host.report.comparison_page import comparison_page
from samebits.host.report.index_page import index_page
from samebits.host.report.run_page import run_page
from support.browser import Browser
from support.command import EXAMPLE
from support.pages import hostile, losses, make

SECONDS_TO_OPEN = 0.3
PAGES = ("run", "comparison", "index", "hostile")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind, and one of a run whose every text attacks."""
    folder, example = tmp_path_factory.mktemp("pages"), read_record(EXAMPLE)
    one = make(folder / "runs" / "a", example, losses(*(3 / (n + 1) for n in range(60))))
    other = make(folder / "runs" / "b", example, losses(*(3.1 / (n + 1) for n in range(60))), code="print(2)\n")
    bad = make(folder / "bad", hostile(example), losses(1.0))
    (folder / "runs" / MARKER).touch()
    found = {
        "run": run_page(one),
        "comparison": comparison_page(one, other),
        "index": index_page(folder / "runs"),
        "hostile": comparison_page(bad, one),
    }
    for name, page in found.items():
        (folder / f"{name}.html").write_bytes(page)
    return {name: folder / f"{name}.html" for name in found}


def test_a_page_in_a_browser(installed_browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    """What the usual lanes see of a browser: a page with everything is drawn, can be read, and requests nothing."""
    page = pages["hostile"]
    assert installed_browser.faults(page) == []
    assert [url for url in installed_browser.open(page).requests if not url.startswith("file:")] == []
    installed_browser.screenshot(page, tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000, "an empty page is smaller"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_no_fault_of_accessibility(browser: Browser, pages: dict[str, Path], name: str, dark: bool) -> None:
    """Contrast too, in both colour schemes."""
    assert browser.faults(pages[name], dark=dark) == []


@pytest.mark.parametrize("name", PAGES)
def test_no_request_leaves(browser: Browser, pages: dict[str, Path], name: str) -> None:
    seen = browser.open(pages[name])
    assert [url for url in seen.requests if not url.startswith("file:")] == []
    assert "alert(" not in seen.dom or "onerror" in seen.dom  # as text


def test_the_pages_own_script_is_allowed_and_no_other(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    assert '<th scope="col"><button>run</button>' in browser.open(pages["index"]).dom
    assert "<button>run</button>" not in browser.open(pages["index"], scripts=False).dom
    attacked = tmp_path / "attacked.html"
    text = pages["index"].read_text().replace("</main>", "<script>document.title='taken'</script></main>")
    attacked.write_text(text.replace("<main>", '<main><img src="http://127.0.0.1:9/x"><p style="color: red">x</p>'))
    seen = browser.open(attacked)
    assert "<title>taken</title>" not in seen.dom
    assert not [url for url in seen.requests if url.startswith("http")]


def test_what_the_checks_would_find(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<!DOCTYPE html><html><head><title>x</title></head><body><main><h1>x</h1>"
        '<p style="color: #aaa; background: #fff">faint</p><img src="http://127.0.0.1:9/x"></main></body></html>'
    )
    assert "http://127.0.0.1:9/x" in browser.open(page).requests
    assert {"color-contrast", "html-has-lang", "image-alt"} <= {fault["id"] for fault in browser.faults(page)}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_page_is_drawn_in_both_schemes(browser: Browser, pages: dict[str, Path], tmp_path: Path, dark: bool) -> None:
    browser.screenshot(pages["run"], tmp_path / "page.png", dark=dark)
    content = (tmp_path / "page.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 20_000, "an empty page is smaller"


def test_a_page_opens_at_once(browser: Browser, pages: dict[str, Path]) -> None:
    assert min(browser.seconds_to_open(pages["run"]) for _ in range(3)) < SECONDS_TO_OPEN
