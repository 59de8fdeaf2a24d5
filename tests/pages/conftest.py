"""The browser; without it these tests are left out, unless it is demanded."""

import os
import shutil
from pathlib import Path

import pytest

from support.browser import Browser
from support.command import ROOT

_AXE = ROOT / ".venv" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="session")
def installed_browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """For the one test of the usual lanes."""
    program = shutil.which("chromium")
    if program is None or not _AXE.exists():
        message = "Chromium or axe-core is missing; `make test-pages` installs both"
        if os.environ.get("SAMEBITS_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    return Browser(program=program, folder=Path(tmp_path_factory.mktemp("browser")), axe=_AXE)


@pytest.fixture(scope="session")
def browser(installed_browser: Browser) -> Browser:
    """For all others: it marks them as tests of `make test-pages`."""
    return installed_browser
