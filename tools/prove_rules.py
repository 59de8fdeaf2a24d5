"""Run the examples of each rule twice with perturbations, and write the outcome into its page: `make prove-rules`.

`prove_rules.py [CODE...]` measures with samebits's settings and without, and rewrites the last section of the page.
`prove_rules.py --check [CODE...]` measures one row in which the page says that the bad example differs, and compares.
Its exit status is 1 if a page is wrong.
"""

import argparse
import http.server
import itertools
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.run_config import RunConfig
from samebits.core.trace_level import DEFAULT_TRACE
from samebits.core.trial import HASH_SEED, PERTURBATIONS, Trial
from samebits.host.cache_dir import cache_folder, exclusive
from samebits.host.launch.runtime import choose_runtime
from samebits.host.probe.experiment import Experiments
from samebits.host.probe.overhead import settings_of

HERE = Path(__file__).parent
PAGES = HERE.parent / "docs" / "rules"
WITH, WITHOUT = "those of `samebits train`", "none"
DIFFER, SAME = "differ", "the same"
ALSO = {"SB501": "scikit-learn"}
"""Packages that an example needs beyond the locked ones."""

ADDRESS = {"SB602"}
"""Rules whose bad example gets an address that returns different content each time."""


def main() -> int:
    """Measure the rules; returns 1 if a checked page is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("codes", nargs="*", metavar="CODE")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--pages", type=Path, default=PAGES)
    options = parser.parse_args()
    wrong = 0
    for code in options.codes or sorted(path.stem for path in options.pages.glob("SB*.md")):
        page = options.pages / f"{code}.md"
        if options.check:
            wrong += not agrees(code, page.read_text(encoding="utf-8"))
        else:
            prove(code, page)
    return int(wrong > 0)


def prove(code: str, page: Path) -> None:
    """Measure with and without settings, and write the section."""
    text = page.read_text(encoding="utf-8").partition("\n## Measured")[0].rstrip() + "\n"
    rows = []
    for settings in (WITH, WITHOUT):
        cells = [described(digests_of(code, example(text, kind), settings)) for kind in ("bad", "good")]
        print(f"{code} {settings}: bad {cells[0]}, good {cells[1]}", flush=True)
        rows.append(f"| {settings} | {cells[0]} | {cells[1]} |")
    table = "\n".join(["| settings | bad | good |", "|---|---|---|", *rows])
    page.write_text(f"{text}\n## Measured\n\n{_HOW}\n\n{table}\n\n{examined(text)}\n", encoding="utf-8")


_HOW = (
    "The first digits of the result digests of two runs of each example. The second run has another directory\n"
    "order, number of cores, clock, user, host name and memory layout; without the settings, another hash seed,\n"
    "too. `make prove-rules` measures them again."
)


def agrees(code: str, text: str) -> bool:
    """Whether two new runs of each example confirm the page."""
    if examined(text) not in text:
        print(f"{code}: the examples changed since they were measured; run `make prove-rules`")
        return False
    rows = [line.split(" | ") for line in text.splitlines() if line.endswith(" |")]
    row = next((cells for cells in rows if len(cells) == 3 and cells[1].endswith(DIFFER) and SAME in cells[2]), None)
    if row is None:
        print(f"{code}: the page shows no settings under which the bad example alone differs")
        return False
    settings = row[0].removeprefix("| ")
    found = [described(digests_of(code, example(text, kind), settings)) for kind in ("bad", "good")]
    confirmed = found[0].endswith(DIFFER) and found[1].endswith(SAME)
    print(f"{code} with settings {settings}: bad {found[0]}, good {found[1]}")
    return confirmed


def examined(text: str) -> str:
    """The comment with the digests of the measured examples. A page with other examples is wrong."""
    digests = (Digest.of_bytes(example(text, kind).encode()).short for kind in ("bad", "good"))
    return f"<!-- examples: {' '.join(digests)} -->"


def example(text: str, kind: str) -> str:
    """The example of a kind on a page."""
    (found,) = re.findall(rf"```python {kind}\n(.*?)```", text, re.DOTALL)
    return str(found)


def described(digests: tuple[str, str]) -> str:
    """Both digests, and whether they are the same."""
    word = SAME if digests[0] == digests[1] else DIFFER
    return f"`{digests[0]}` `{digests[1]}`: {word}"


def digests_of(code: str, script: str, settings: str) -> tuple[str, str]:
    """The short result digests of two runs; the state of a run that has no result."""
    with tempfile.TemporaryDirectory() as folder, changing_address() as address:
        data = Path(folder) / "data"
        write_data(data)
        beside = Path(folder) / "code"
        beside.mkdir()
        if code in ALSO:
            data = installed()
            script = f"import os, sys\nsys.path.insert(0, os.environ['SAMEBITS_DATA'])\n{script}"
        (beside / "train.py").write_text(script)
        spec = RunConfig(
            script=beside / "train.py",
            data=data,
            arguments=(address,) if code in ADDRESS else (),
            runtime="venv",
        )
        pinned = settings == WITH
        without = () if pinned else settings_of(spec.determinism)[-1][1]
        changed = tuple(name for name in PERTURBATIONS if name != HASH_SEED or not pinned)
        experiments = Experiments(spec, choose_runtime(spec), Path(folder) / "runs", DEFAULT_TRACE)
        trials = (Trial(without=without), Trial(without=without, changed=changed))
        records = [experiments.run(f"{code} with settings {settings}", trial)[1] for trial in trials]
    one, other = (record.result_digest.short if record.result_digest else record.outcome.state for record in records)
    return one, other


def write_data(folder: Path) -> None:
    """Write eight small tables, and texts in two folders."""
    for kind, number in itertools.product(("cat", "dog"), range(4)):
        path = folder / "texts" / kind / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"the {kind} of number {number}")
    for number, name in enumerate("abcdefgh"):
        (folder / f"{name}.csv").write_text(f"{number},{number * number},{number / 7}\n")


def installed() -> Path:
    """A folder with the locked scikit-learn; installed once."""
    folder = cache_folder("proofs")
    target = folder / "scikit-learn"
    with exclusive(folder, "scikit-learn"):
        if not (target / ".done").exists():
            words = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps")
            lock = str(HERE / "prove_rules.lock")
            subprocess.run([sys.executable, *words, "--target", str(target), "-r", lock], check=True)
            (target / ".done").touch()
    return target


@contextmanager
def changing_address() -> Iterator[str]:
    """An address that returns another number for each request."""
    counter = itertools.count(1)

    class Counting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"{next(counter)},1".encode())

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  the base's own name
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
