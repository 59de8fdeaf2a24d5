"""Measure, compare with what is kept, and fail where a goal is not met any more: `make bench`.

Each benchmark is a module with a function `measure(Options)` that returns figures. Their kept ones are in
`benchmarks/kept`, one file each; the tables between markers in BENCHMARKS.md are written from these files. The list of
benchmarks there is written from the modules: their docstrings begin with what is measured, and how long that takes.
"""

import argparse
import ast
import importlib
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from figures import Measurement, Origin, regressions, replaced_tables
from measuring import HERE, IDLE_CORES, ROOT, Options, UnavailableError, cores_in_use

from samebits import __version__
from samebits.core.cpu_info import describe_cpu
from samebits.core.errors import SamebitsError
from samebits.host.subprocesses import run_tool

PAGE, KEPT = ROOT / "BENCHMARKS.md", HERE / "kept"
LIST = "all"
"""Of the markers around the list of benchmarks."""
NAMES = (
    *("overhead", "steps", "instructions", "trace", "locate", "resume", "verify", "profiles", "workers", "submission"),
    *("scale", "split", "build", "packages", "capsule", "watching", "report"),
)


def main() -> int:
    """Exit status 1 where a goal is missed that the kept figures meet, or a benchmark fails; 2 for a wrong call."""
    given = _parser().parse_args()
    options = Options(rounds=given.rounds, small=given.small, dvc=given.dvc)
    if given.tables:
        write_page(NAMES)
        return 0
    if given.keep and given.small:
        return _refused("figures of small sizes say nothing: --small and --keep exclude each other")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # no contender is to compile its own source each time
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    faults = []
    for name in given.only or NAMES:
        others = cores_in_use()
        if others > IDLE_CORES and not given.busy:
            return _refused(f"other work uses {others:.1f} cores; wait for it, or measure beside it with BUSY=1")
        try:
            faults += run(name, others, options, given)
        except UnavailableError as reason:
            print(f"{name}: left out: {reason}", file=sys.stderr, flush=True)
            faults += [f"{name}: {reason}"] if given.only else []
        except (SystemExit, OSError, SamebitsError, ValueError) as error:  # the others can be measured
            faults.append(f"{name} failed: {error}")
    for fault in faults:
        print(f"bench: {fault}", file=sys.stderr)
    return 1 if faults else 0


def run(name: str, others: float, options: Options, given: argparse.Namespace) -> list[str]:
    """Run one benchmark, and print its tables; returns what got worse than the kept figures."""
    print(f"bench: {name}", file=sys.stderr, flush=True)
    began = origin(name, others)
    module = importlib.import_module(name)
    figures = module.measure(options)
    if options.small:  # which meet or miss nothing
        figures = (replace(figure, most=None, least=None) for figure in figures)
    found = Measurement(origin=began, figures=tuple(figures))
    print(f"\n{found.tables()}", flush=True)
    faults = [] if options.small else compared(name, found)
    if given.json:
        given.json.mkdir(parents=True, exist_ok=True)
        found.write(given.json / f"{name}.json")
    if given.keep:
        found.write(KEPT / f"{name}.json")
        write_page([name])
    return faults


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=_names, help="these benchmarks, separated by commas")
    parser.add_argument("--rounds", type=int, help="instead of each benchmark's own numbers, see there")
    parser.add_argument("--small", action="store_true", help="the least sizes, to try a benchmark; compares nothing")
    parser.add_argument("--busy", action="store_true", help="also beside other work; the figures say so")
    parser.add_argument("--keep", action="store_true", help="keep the figures, and write them into BENCHMARKS.md")
    parser.add_argument("--json", type=Path, metavar="FOLDER", help="write the figures there, too")
    parser.add_argument("--dvc", default="dvc", metavar="COMMAND", help="dvc in an environment of its own")
    parser.add_argument("--tables", action="store_true", help="only write list and kept figures into BENCHMARKS.md")
    return parser


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return names


def _refused(reason: str) -> int:
    print(f"bench: {reason}", file=sys.stderr)
    return 2


def origin(name: str, others: float) -> Origin:
    """Of what is measured here and now."""
    cpu = describe_cpu()
    return Origin(
        command=f"make bench ONLY={name}",
        samebits=__version__,
        commit=run_tool(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], what="git").strip(),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        cpu=cpu.model,
        cores=cpu.cores,
        instructions=str(cpu.instruction_set),
        python=platform.python_version(),
        others=round(others, 2),
        idle=others <= IDLE_CORES,
    )


def compared(name: str, found: Measurement) -> list[str]:
    """What got worse than the kept figures, and a note where these were measured elsewhere."""
    path = KEPT / f"{name}.json"
    if not path.exists():
        print(f"{name}: nothing is kept to compare with", file=sys.stderr)
        return []
    kept = Measurement.read(path)
    if (kept.origin.cpu, kept.origin.cores) != (found.origin.cpu, found.origin.cores):
        print(f"{name}: the kept figures are of another machine: {kept.origin}", file=sys.stderr)
    return list(regressions(kept, found))


def tables_of(name: str) -> str:
    """What stands between a benchmark's markers; nothing, where none are kept."""
    path = KEPT / f"{name}.json"
    return Measurement.read(path).tables() if path.exists() else ""


def listed() -> str:
    """The table of all benchmarks: what each measures, its time, and its own numbers of rounds."""
    lines = ["| `ONLY=` | measures | takes | rounds |", "|---|---|---|---|"]
    for name in NAMES:
        tree = ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))
        first = re.match(r"(.*) \(([^)]+)\)[.;]", ast.get_docstring(tree) or "")
        assert first is not None, name
        rounds = sorted(set(_rounds_in(tree)))
        lines.append(f"| `{name}` | {first[1]} | {first[2]} | {', '.join(map(str, rounds))} |")
    return "\n".join(lines) + "\n"


def _rounds_in(tree: ast.AST) -> Iterator[int]:
    """The numbers that a module gives to `Options.rounds_or`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "rounds_or":
            yield ast.literal_eval(node.args[0])


def write_page(names: Sequence[str]) -> None:
    """Write the list of benchmarks, and the kept figures of these, into BENCHMARKS.md."""
    text = replaced_tables(PAGE.read_text(encoding="utf-8"), LIST, listed())
    for name in names:
        text = replaced_tables(text, name, tables_of(name))
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
