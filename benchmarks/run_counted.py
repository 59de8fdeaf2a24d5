"""Start samebits with the training under valgrind: `python run_counted.py FILE WORDS…`. FILE gets the counts.

valgrind before 3.23 does not know `pidfd_open`, by which a training is tied to its launcher. So `python run_counted.py
--run FOLDER`, which this starts beside the script, leaves that out: one process, which waits.
"""

import runpy
import sys
from dataclasses import replace

VALGRIND = ("valgrind", "--quiet", "--tool=cachegrind", "--cache-sim=no", "--trace-children=no")


def main(file: str) -> int:
    """Run samebits in this process; returns its exit status."""
    from samebits.__main__ import main as samebits
    from samebits.host.launch import venv

    plan = venv.plan_process

    def counted(*words: object, **named: object) -> venv.ProcessRequest:
        request = plan(*words, **named)  # type: ignore[arg-type]
        python, *_, folder = request.command
        counter = (*VALGRIND, f"--cachegrind-out-file={file}", python, "-P", __file__, "--run", folder)
        return replace(request, command=counter)

    venv.plan_process = counted
    return samebits()


def run() -> None:
    """The training's side."""
    from samebits.runner.process import launcher_watch

    launcher_watch.tie_to_launcher = lambda: None
    runpy.run_module("samebits.runner", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    if sys.argv[1] == "--run":
        run()
    else:
        sys.exit(main(sys.argv.pop(1)))
