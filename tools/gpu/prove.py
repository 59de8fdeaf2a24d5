"""Prove, step by step, what samebits guarantees on a GPU: `VENV/bin/python -m tools.gpu.prove --out proof.json`.

Run it with the Python of the environment that `join` made, from the checkout's folder, with PYTHONPATH=src. Each step
runs in a process of its own. The report is written anew after each step, so that nothing is lost when time runs out.
Without a GPU every step runs on the CPU, as far as the first call of CUDA, and the report says so.
"""

import argparse
import ctypes
import ctypes.util
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.gpu.steps import STEPS, Step
from tools.gpu.trainings import Place, kind_of

from samebits import __version__
from samebits.core.errors import SamebitsError
from samebits.core.gpu_info import GpuReport, read_gpus
from samebits.core.jsonio import readable_json, write_atomically
from samebits.host.image.build_context import GPU, ImageKind

FORMAT, VERSION = "samebits.gpu-proof", "1.0"
LARGEST = 15 << 20  # bytes of the report
DONE, FAILED, OUT_OF_TIME, SKIPPED = "done", "failed", "out of time", "skipped"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SHORTEST = 5.0  # seconds below which no step is worth starting
_DRIVER_FOLDERS = ("/usr/local/nvidia/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib")


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What was asked for: the environment's Python, where to write, which steps, and the seconds for all of them."""

    python: Path
    out: Path
    work: Path
    steps: tuple[Step, ...]
    budget: float
    dry_run: bool
    patience: float


def main(argv: list[str] | None = None) -> int:
    """Run the steps; 0 if all were done and equal, 1 if one was not, 2 for wrong arguments."""
    options, only = _parse(argv)
    if only:
        # It has a session of its own, and must not outlive a proof that is killed. Its trainings end with it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        return _run_here(options, options.steps[0])
    report = _heading(options)
    started = time.monotonic()
    for step in options.steps:
        left = options.budget - (time.monotonic() - started)
        report["steps"][step.name] = _skipped(step) if left < _SHORTEST else _run_apart(options, step, left)
        report["seconds"] = round(time.monotonic() - started, 1)
        _write(options.out, report)
        _print_line(step, report["steps"][step.name])
    return int(not all(map(_holds, report["steps"].values())))


def _holds(item: Mapping[str, Any]) -> bool:
    """Whether a step was done, and found what must be equal to be equal."""
    return item["outcome"] == DONE and item["found"].get("equal", True) is True


def _parse(argv: list[str] | None) -> tuple[Options, bool]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [step.name for step in STEPS]
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="of the environment (this one)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the report")
    parser.add_argument("--work", type=Path, default=Path("/tmp/samebits-gpu"), metavar="FOLDER", help="for the runs")
    parser.add_argument("--steps", default=",".join(names), help=f"of: {', '.join(names)}")
    parser.add_argument("--budget", type=float, default=360, metavar="SECONDS", help="for all steps")
    parser.add_argument("--patience", type=float, default=1, metavar="FACTOR", help="multiplies the time of each step")
    parser.add_argument("--dry-run", action="store_true", help="do not use a GPU, although there is one")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    chosen = given.steps.split(",")
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"unknown steps: {', '.join(unknown)}; choose from: {', '.join(names)}")
    options = Options(
        python=given.python.absolute(),  # not resolved: an environment's Python is a link
        out=given.out,
        work=given.work.resolve(),
        steps=tuple(step for step in STEPS if step.name in chosen),
        budget=given.budget,
        dry_run=given.dry_run,
        patience=given.patience,
    )
    return options, given.one


def _heading(options: Options) -> dict[str, Any]:
    report = _gpus(options)
    return {
        "format": FORMAT,
        "version": VERSION,
        "samebits": __version__,
        "dry_run": not report.gpus,
        "gpu": report.to_dict(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "steps": {},
    }


def _gpus(options: Options) -> GpuReport:
    return GpuReport(reason="a dry run was asked for") if options.dry_run else read_gpus(multiprocessors=True)


def _skipped(step: Step) -> dict[str, Any]:
    return {"question": step.question, "outcome": SKIPPED, "seconds": 0.0, "error": "no time was left"}


def _run_apart(options: Options, step: Step, left: float) -> dict[str, Any]:
    """Run one step in a process of its own, which can be ended with all that it started."""
    answer = options.work / f"{step.name}.json"
    answer.parent.mkdir(parents=True, exist_ok=True)
    answer.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tools.gpu.prove", "--one", "--steps", step.name, "--out", str(answer)]
    command += ["--python", str(options.python), "--work", str(options.work)]
    started, limit = time.monotonic(), min(left, step.seconds * options.patience)
    process = subprocess.Popen(
        [*command, *(["--dry-run"] if options.dry_run else [])],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    outcome, error = FAILED, ""
    try:
        error = process.communicate(timeout=limit)[1].decode(errors="replace")[-2000:]
    except subprocess.TimeoutExpired:
        outcome, error = OUT_OF_TIME, f"it took longer than {limit:.0f} s"
    finally:
        # Trainings end with the step that started them.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    found: dict[str, Any] = {"question": step.question, "outcome": outcome, "error": error}
    if answer.exists():
        found |= json.loads(answer.read_text())
    return found | {"seconds": round(time.monotonic() - started, 1)}


def _run_here(options: Options, step: Step) -> int:
    """Run one step in this process, and write what it found."""
    try:
        answer = {"outcome": DONE, "error": None, "found": step.run(_place(options))}
    except (SamebitsError, RuntimeError, ValueError, subprocess.SubprocessError, OSError) as error:
        answer = {"outcome": FAILED, "error": str(error) or repr(error), "traceback": traceback.format_exc()[-4000:]}
    _write(options.out, answer)
    return int(answer["outcome"] != DONE)


def _place(options: Options) -> Place:
    options.work.mkdir(parents=True, exist_ok=True)
    gpus = _gpus(options)
    return Place(
        python=options.python,
        folder=options.work,
        gpus=gpus,
        variables=gpu_variables(options.work) if gpus.gpus else {},
        kind=_kind(options.python),
    )


def _kind(python: Path) -> ImageKind:
    """The kind of image whose lock the environment was made from; the GPU's where nothing says so."""
    complete = python.parents[2] / "complete"
    return kind_of(json.loads(complete.read_text())["lock"]) if complete.exists() else GPU


def gpu_variables(work: Path, search: str | None = None) -> dict[str, str]:
    """What a process on the GPU needs beyond the profile: a cache for compiled kernels, and the driver's folder.

    TensorFlow's own kernels are PTX for 9.0. The driver compiles them, once if it may keep the result.
    """
    found = {"CUDA_CACHE_PATH": str(work / "cuda-cache"), "CUDA_CACHE_MAXSIZE": str(4 << 30)}
    search = os.environ.get("LD_LIBRARY_PATH", "") if search is None else search
    if ctypes.util.find_library("cuda") is None:
        folders = [*(folder for folder in search.split(":") if folder), *_DRIVER_FOLDERS]
        folder = next((folder for folder in folders if Path(folder, "libcuda.so.1").exists()), None)
        found |= {} if folder is None else {"LD_LIBRARY_PATH": folder}
    return found


def _write(path: Path, value: Mapping[str, Any]) -> None:
    content = readable_json(value)
    if len(content) > LARGEST:
        content = readable_json({"outcome": FAILED, "error": f"the report has {len(content)} bytes; run fewer steps"})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


def _print_line(step: Step, item: Mapping[str, Any]) -> None:
    equal = dict(item.get("found") or {}).get("equal", "")
    known = {True: "equal", False: "DIFFERENT", None: "no result", "": ""}[equal]
    note = known or str(item.get("error") or "").strip().rpartition("\n")[2][:160]
    print(f"{item['seconds']:7.1f} s  {step.name:<13} {item['outcome']:<12} {note}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
