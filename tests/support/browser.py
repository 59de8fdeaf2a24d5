"""A real browser: Chromium without a window, asked by its command line alone, and axe-core for accessibility."""

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_AXE_SCRIPT = """
<script>{axe}</script>
<script>
const found = document.createElement("pre");
found.id = "found";
axe.run(document, {{ resultTypes: ["violations"] }}).then((result) => {{
  const shown = result.violations.map((item) => ({{
    id: item.id, impact: item.impact, nodes: item.nodes.slice(0, 3).map((node) => node.html.slice(0, 200)) }}));
  found.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(shown))));
  document.body.append(found);
}});
</script>
"""
_TIME_SCRIPT = """
<script>
addEventListener("load", () => setTimeout(() => {
  const [timing] = performance.getEntriesByType("navigation");
  document.documentElement.dataset.opened = String(timing.loadEventEnd - timing.startTime);
}, 0));
</script>
"""
_POLICY = '<meta http-equiv="Content-Security-Policy"'
_DARK = "--blink-settings=preferredColorScheme=0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A page as the browser has it: its DOM after scripts, and the addresses that it asked for."""

    dom: str
    requests: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Browser:
    """Chromium's path, a folder of its own, and axe-core's script."""

    program: str
    folder: Path
    axe: Path

    def open(self, page: Path, *, dark: bool = False, scripts: bool = True) -> Seen:
        """Open a page as it is, with its own policy."""
        log = self.folder / "net.json"
        options = [] if scripts else ["--blink-settings=scriptEnabled=false"]
        dom = self._run(page, f"--log-net-log={log}", *options, *([_DARK] if dark else []), "--dump-dom")
        return Seen(dom=dom, requests=tuple(_requests(json.loads(log.read_bytes()))))

    def screenshot(self, page: Path, target: Path, *, dark: bool = False) -> None:
        """What a user sees first."""
        self._run(page, f"--screenshot={target}", "--window-size=1000,1400", *([_DARK] if dark else []))

    def faults(self, page: Path, *, dark: bool = False) -> list[dict[str, Any]]:
        """What axe-core finds, in a copy without the policy, which would let no script of ours in."""
        dom = self._run(self._with(page, _AXE_SCRIPT.format(axe=self.axe.read_text())), *([_DARK] if dark else []))
        text = dom.rpartition('<pre id="found">')[2].partition("</pre>")[0]
        found: list[dict[str, Any]] = json.loads(_decode(text))
        return found

    def seconds_to_open(self, page: Path) -> float:
        """From the start of the navigation to the end of `load`."""
        dom = self._run(self._with(page, _TIME_SCRIPT))
        return float(dom.partition('data-opened="')[2].partition('"')[0]) / 1000

    def _with(self, page: Path, script: str) -> Path:
        text = page.read_text(encoding="utf-8").replace(_POLICY, '<meta name="removed"', 1)
        copy = self.folder / "copy.html"
        copy.write_text(text.replace("</body>", f"{script}</body>"), encoding="utf-8")
        return copy

    def _run(self, page: Path, *options: str) -> str:
        """Nothing that the browser itself asks for finds its way out."""
        command = [
            *(self.program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
            *(
                "--disable-background-networking",
                "--disable-component-update",
                f"--user-data-dir={self.folder}/profile",
            ),
            *("--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--virtual-time-budget=20000"),
            *(options if any(option.startswith("--screenshot") for option in options) else ("--dump-dom", *options)),
            page.resolve().as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
        return done.stdout


def _requests(log: dict[str, Any]) -> list[str]:
    """The addresses that a page asked for: what the browser asks for itself has no origin."""
    kinds = {number: name for name, number in log["constants"]["logEventTypes"].items()}
    started = [event["params"] for event in log["events"] if kinds[event["type"]] == "URL_REQUEST_START_JOB"]
    return [item["url"] for item in started if "url" in item and item.get("initiator") != "not an origin"]


def _decode(text: str) -> str:
    return base64.b64decode(text).decode()
