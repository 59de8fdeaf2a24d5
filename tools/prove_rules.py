"""Run each rule's examples twice, in other surroundings, and write into its page what came of it: `make prove-rules`.

`prove_rules.py [CODE...]` measures with samebits's settings and without them, and rewrites the page's last section.
`prove_rules.py --check [CODE...]` measures only where the page says that the bad example differs, and compares; it ends
with 1 where a page is wrong.
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
"""What an example needs beyond the locked packages."""

ADDRESS = {"SB602"}
"""Whose bad example is given an address that has something else each time."""


def main() -> int:
    """Measure; returns 1 where a page that is checked says otherwise."""
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
    """Measure both ways, and write the section."""
    text = page.read_text(encoding="utf-8").partition("\n## Measured")[0].rstrip() + "\n"
    rows = []
    for settings in (WITH, WITHOUT):
        cells = [described(digests_of(code, example(text, kind), settings)) for kind in ("bad", "good")]
        print(f"{code} {settings}: bad {cells[0]}, good {cells[1]}", flush=True)
        rows.append(f"| {settings} | {cells[0]} | {cells[1]} |")
    table = "\n".join(["| settings | bad | good |", "|---|---|---|", *rows])
    page.write_text(f"{text}\n## Measured\n\n{_HOW}\n\n{table}\n\n{examined(text)}\n", encoding="utf-8")


_HOW = (
    "Two runs of each, in processes with another directory order, number of cores, clock, user, host name and memory\n"
    "layout, without the settings with another hash seed, too: the beginnings of their result digests, by\n"
    "`make prove-rules`."
)


def agrees(code: str, text: str) -> bool:
    """Whether two new runs of each example bear the page out."""
    if examined(text) not in text:
        print(f"{code}: the examples are not those that were measured; run `make prove-rules`")
        return False
    rows = [line.split(" | ") for line in text.splitlines() if line.endswith(" |")]
    said = next((row for row in rows if len(row) == 3 and row[1].endswith(DIFFER) and SAME in row[2]), None)
    if said is None:
        print(f"{code}: the page shows no settings under which the bad example alone differs")
        return False
    settings = said[0].removeprefix("| ")
    found = [described(digests_of(code, example(text, kind), settings)) for kind in ("bad", "good")]
    borne_out = found[0].endswith(DIFFER) and found[1].endswith(SAME)
    print(f"{code} with settings {settings}: bad {found[0]}, good {found[1]}")
    return borne_out


def examined(text: str) -> str:
    """Names the examples that were measured: a page whose examples changed since then is wrong."""
    digests = (Digest.of_bytes(example(text, kind).encode()).short for kind in ("bad", "good"))
    return f"<!-- examples: {' '.join(digests)} -->"


def example(text: str, kind: str) -> str:
    """The one example of a kind on a page."""
    (found,) = re.findall(rf"```python {kind}\n(.*?)```", text, re.DOTALL)
    return str(found)


def described(digests: tuple[str, str]) -> str:
    """Both, and the word."""
    word = SAME if digests[0] == digests[1] else DIFFER
    return f"`{digests[0]}` `{digests[1]}`: {word}"


def digests_of(code: str, script: str, settings: str) -> tuple[str, str]:
    """The beginnings of the result digests of two runs; how a run ended, where it has none."""
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
        trials = Experiments(spec, choose_runtime(spec), Path(folder) / "runs", DEFAULT_TRACE)
        both = (Trial(without=without), Trial(without=without, changed=changed))
        records = [trials.run(f"{code} with settings {settings}", trial)[1] for trial in both]
    one, other = (record.result_digest.short if record.result_digest else record.outcome.state for record in records)
    return one, other


def write_data(folder: Path) -> None:
    """Eight small tables, and texts in two folders."""
    for kind, number in itertools.product(("cat", "dog"), range(4)):
        path = folder / "texts" / kind / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"the {kind} of number {number}")
    for number, name in enumerate("abcdefgh"):
        (folder / f"{name}.csv").write_text(f"{number},{number * number},{number / 7}\n")


def installed() -> Path:
    """A folder with scikit-learn, by its lock; made once."""
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
    """An address that counts its readers."""
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
