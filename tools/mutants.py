"""Show that the tests catch what they must: `python tools/mutants.py [--lane LANE] [NAME …]`.

`tests/mutants.toml` lists mutations of one line each. Every one breaks something that samebits guarantees, and names
the tests that must fail then. Each mutation is applied in a scratch copy of the checkout. Before that, the same tests
must pass in a copy that nobody changed.

Exit status: 0 where all mutations were caught, 1 where one survived, 2 where the list no longer fits the code.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from samebits.host.cache_dir import cache_folder

ROOT = Path(__file__).parents[1]
LIST = ROOT / "tests" / "mutants.toml"
LANES = ("fast", "test")
"""`fast` needs neither TensorFlow nor an engine; `test` is all of `make test`."""

CAUGHT, SURVIVED, OUTDATED = "caught", "survived", "outdated"
_SHARED_CACHES = ("bases", "venvs", "wheelhouse", "wheels")
_TIMEOUT = 900.0  # seconds for one selection of tests
_TESTS_FAILED, _TESTS_PASSED = 1, 0  # pytest's exit statuses


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutant:
    """One mutation: in `file` the fragment `old`, which occurs once, becomes `new`; then `tests` must fail."""

    name: str
    promise: str
    file: str
    old: str
    new: str
    lane: str
    tests: str

    def outdated(self, root: Path) -> str:
        """Why the list no longer fits the code; empty where it does."""
        path = root / self.file
        if not path.is_file():
            return f"{self.file} is no longer there: update tests/mutants.toml"
        found = path.read_text().count(self.old)
        if found == 0:
            return f"the fragment is no longer there: update tests/mutants.toml ({self.file}: {self.old})"
        return "" if found == 1 else f"the fragment occurs {found} times: make it longer ({self.file}: {self.old})"

    def apply(self, root: Path) -> None:
        """Change the file in a copy of the checkout."""
        path = root / self.file
        path.write_text(path.read_text().replace(self.old, self.new))


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What came of one mutation, or of the same tests without it."""

    word: str
    seconds: float = 0.0
    detail: str = ""


def read_mutants(path: Path = LIST) -> list[Mutant]:
    """The committed list; raises ValueError where an entry is not whole."""
    names = {item.name for item in fields(Mutant)}
    found = []
    for entry in tomllib.loads(path.read_text())["mutant"]:
        if entry.keys() != names or entry["lane"] not in LANES:
            raise ValueError(f"{path}: {entry.get('name')} must have {', '.join(sorted(names))}, and a known lane")
        found.append(Mutant(**entry))
    if len({mutant.name for mutant in found}) != len(found):
        raise ValueError(f"{path}: two mutants have one name")
    return found


def choose(mutants: Sequence[Mutant], names: Sequence[str], lane: str | None) -> list[Mutant]:
    """Those that were asked for; raises ValueError for a name that is not in the list."""
    unknown = set(names) - {mutant.name for mutant in mutants}
    if unknown:
        raise ValueError(f"there is no mutant {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in mutants if not names or mutant.name in names]
    return [mutant for mutant in chosen if lane in (None, mutant.lane)]


@contextmanager
def snapshot() -> Iterator[Path]:
    """The checkout's files as they are now; every copy is made of it, whatever is edited meanwhile."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    with tempfile.TemporaryDirectory(prefix="samebits-mutants-") as folder:
        for name in filter(None, names):
            if (ROOT / name).is_file():
                target = Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)
        yield Path(folder)


@contextmanager
def scratch_copy(source: Path) -> Iterator[Path]:
    """A copy to break, and beside it a cache that shares only what does not follow the source."""
    with tempfile.TemporaryDirectory(prefix="samebits-mutant-") as folder:
        root = Path(folder) / "checkout"
        shutil.copytree(source, root)
        (root.parent / "cache").mkdir()
        for name in _SHARED_CACHES:
            (root.parent / "cache" / name).symlink_to(cache_folder(name))
        yield root


def run_tests(root: Path, tests: str) -> Trial:
    """Run a selection of a copy's tests; `word` is empty where they pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *shlex.split(tests)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(root / "src"),
        "SAMEBITS_CACHE": str(root.parent / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    started = time.monotonic()
    with subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
    ) as process:
        try:
            output, _ = process.communicate(timeout=_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
    return _trial(process.returncode, output, time.monotonic() - started)


def _trial(status: int, output: str, seconds: float) -> Trial:
    last = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR", "E   "))][-1:]
    if status == _TESTS_PASSED:
        word = SURVIVED if "passed" in output else OUTDATED  # tests that are skipped show nothing
        detail = "" if word == SURVIVED else "its tests were skipped here"
    elif status == _TESTS_FAILED:
        word, detail = CAUGHT, "".join(last)
    else:
        word, detail = OUTDATED, "its tests are no longer there, or cannot be run: update tests/mutants.toml"
        detail += f" ({' '.join(last)})" if last else ""
    return Trial(word=word, seconds=seconds, detail=detail)


def try_unchanged(source: Path, tests: str) -> Trial:
    """The tests without a mutation: they must pass, or their failure would show nothing."""
    with scratch_copy(source) as root:
        found = run_tests(root, tests)
    if found.word == CAUGHT:
        return replace(found, word=OUTDATED, detail=f"fails without a mutation: {found.detail}")
    return found


def try_mutant(source: Path, mutant: Mutant) -> Trial:
    """Apply one mutation, and see whether its tests fail."""
    with scratch_copy(source) as root:
        mutant.apply(root)
        return run_tests(root, mutant.tests)


Tried = tuple[Mutant, Trial]


def try_selection(source: Path, mutants: Sequence[Mutant]) -> list[Tried]:
    """Mutations that the same tests must catch: first these tests without any."""
    unchanged = try_unchanged(source, mutants[0].tests)
    if unchanged.word == OUTDATED:
        return [(mutant, unchanged) for mutant in mutants]
    return [(mutant, try_mutant(source, mutant)) for mutant in mutants]


def try_all(mutants: Sequence[Mutant], jobs: int) -> Iterator[Tried]:
    """Every mutation, so many selections of tests at a time."""
    with snapshot() as source, ThreadPoolExecutor(jobs) as threads:
        selections: dict[str, list[Mutant]] = {}
        for mutant in mutants:
            if why := mutant.outdated(source):
                yield mutant, Trial(word=OUTDATED, detail=why)
            else:
                selections.setdefault(mutant.tests, []).append(mutant)
        print(f"{len(mutants)} mutants of {len(selections)} selections of tests", flush=True)
        for found in as_completed(threads.submit(try_selection, source, group) for group in selections.values()):
            yield from found.result()


def report(tried: Iterable[Tried]) -> int:
    """A line for each mutation as it ends, and the sums; the exit status."""
    words = []
    for mutant, found in tried:
        words.append(found.word)
        print(f"{found.word:9} {mutant.lane:5} {found.seconds:6.1f} s  {mutant.name}", flush=True)
        if found.word != CAUGHT:
            print(f"          {mutant.promise}\n          {found.detail or mutant.tests}", flush=True)
    print(f"{words.count(CAUGHT)} caught, {words.count(SURVIVED)} survived, {words.count(OUTDATED)} outdated")
    if OUTDATED in words:
        return 2
    return 1 if SURVIVED in words else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Try the mutants that were asked for."""
    parser = argparse.ArgumentParser(description="Apply each mutation, and show that its tests fail.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--lane", choices=LANES, help="only those of one lane")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="so many at a time (default: 2)")
    parser.add_argument("--list", action="store_true", help="check that the list fits the code, and run nothing")
    given = parser.parse_args(argv)
    try:
        mutants = choose(read_mutants(), given.names, given.lane)
    except ValueError as error:
        parser.error(str(error))
    if given.list:
        outdated = [f"{mutant.name}: {why}" for mutant in mutants if (why := mutant.outdated(ROOT))]
        print(*outdated, f"{len(mutants)} mutants, {len(outdated)} outdated", sep="\n")
        return 2 if outdated else 0
    return report(try_all(mutants, given.jobs))


if __name__ == "__main__":
    sys.exit(main())
