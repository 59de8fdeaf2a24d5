"""What this command prints into the code's own folder is no code."""

import subprocess
import sys
from pathlib import Path

import pytest

_PLAN = """
import sys, time
from pathlib import Path
from samebits.core.code_tree import describe_code, hash_code
from samebits.core.run_config import RunConfig
print("first", flush=True)
time.sleep(0.2)  # until `tee` has opened its file
spec = RunConfig(script=Path("train.py"), runs=Path("runs"))
tree = hash_code(spec)
print([entry.path for entry in tree.entries], describe_code(spec, tree), flush=True)
"""

_BY_A_PROGRAM = """exec "$0" -c '
import subprocess, sys
with open("log.txt", "r+") as own, open("../log.txt", "w") as out:
    out.write(subprocess.run([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True).stdout)
' "$1" """


@pytest.mark.parametrize(
    ("command", "left_out"),
    [
        ('"$0" -c "$1" > log.txt', ["log.txt"]),
        ('"$0" -c "$1" 2>> err.txt >> log.txt', ["err.txt", "log.txt"]),
        ('"$0" -c "$1" | tee log.txt', ["log.txt"]),
        ('"$0" -c "$1" 2>&1 | tee deep/log.txt', ["deep/log.txt"]),
        ('"$0" -c "$1" | grep -a "" | tee log.txt', ["log.txt"]),
        ('"$0" -c "$1" | cat > log.txt', ["log.txt"]),
        ('"$0" -c "$1" > ../log.txt', []),
        (_BY_A_PROGRAM, []),  # that has files of its own open
        ('"$0" -c "$1" < log.txt > ../log.txt', []),  # what it reads is code
    ],
)
def test_its_own_log(tmp_path: Path, command: str, left_out: list[str]) -> None:
    folder = tmp_path / "project"
    (folder / "deep").mkdir(parents=True)
    for name in ("train.py", "log.txt", "err.txt", "deep/log.txt"):
        (folder / name).write_text("0\n")
    subprocess.run(["bash", "-c", command, sys.executable, _PLAN], cwd=folder, check=True, capture_output=True)
    outputs = [*left_out, "../log.txt"]
    (found,) = (text for name in outputs if "['" in (text := _read(folder / name)))
    assert [name for name in ("log.txt", "err.txt", "deep/log.txt") if f"'{name}'" not in found] == sorted(
        left_out, key=["log.txt", "err.txt", "deep/log.txt"].index
    )
    told = f"the code leaves out {', '.join(left_out)}, which this command's output goes to" if left_out else "None"
    assert told in found


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
