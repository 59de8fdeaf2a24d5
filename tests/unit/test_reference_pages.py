"""What pages take from the code is current, and the site's navigation names every page."""

import re
import runpy
from pathlib import Path

from support.command import ROOT


def test_generated_parts_are_current() -> None:
    pages: dict[Path, str] = runpy.run_path(str(ROOT / "tools" / "reference_pages.py"))["pages"]()
    assert len(pages) == 3
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date; run tools/reference_pages.py"


def test_a_changed_parser_is_noticed() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "reference_pages.py"))
    block = "<!-- made by tools/reference_pages.py -->\nold\n<!-- end -->"
    assert tool["_with_block"](block, ["new"]) == block.replace("old\n", "\nnew\n\n")
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert "## samebits verify" in page
    assert "`--trust-its-code`" in page


def test_the_navigation_names_every_page() -> None:
    named = set(re.findall(r"([a-z-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert named == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_links_out_of_the_site_become_names() -> None:
    hook = runpy.run_path(str(ROOT / "tools" / "docs_hooks.py"))["on_page_markdown"]
    assert hook("see [a](../BENCHMARKS.md) and [b](b.md)") == "see a and [b](b.md)"
