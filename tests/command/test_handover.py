"""A run of a virtual environment on another machine: no network, an empty cache, another home."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from samebits.core.run_dir import RunDir
from support.command import COMMAND, Done, Project, call

pytestmark = [
    pytest.mark.cold,
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare"),
]


def there(folder: Path, *words: str) -> Done:
    """Call samebits where no network is, and nothing of this machine's user."""
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "SAMEBITS_CACHE": str(folder / "cache"),
        **{name: value for name, value in os.environ.items() if name in {"PYTHONPATH", "LANG"}},
    }
    command = ["unshare", "--net", "bash", "-c", 'ip link set lo up && exec "$@"', "bash", *COMMAND, *words]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=900, check=False)
    return Done(status=done.returncode, out=done.stdout, err=done.stderr)


@pytest.mark.timeout(1800)
def test_a_fresh_machine(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It verifies by the key of the sender, and by no other; nothing runs before its code was allowed."""
    keys, received = tmp_path_factory.mktemp("keys"), tmp_path_factory.mktemp("received")
    trained = project.train()
    assert trained.status == 0, trained.err
    run = RunDir(project.folder / trained.run)
    for name in ("mine", "other"):
        assert call("key", "new", "-o", str(keys / name), folder=project.folder).status == 0
        shutil.copy(keys / f"{name}.pub", received)
    assert call("sign", "last", "--key", str(keys / "mine"), folder=project.folder).status == 0
    packed = call("pack", "last", "-o", str(received / "a.tar"), folder=project.folder)
    assert packed.status == 0, packed.err
    shutil.rmtree(project.folder)
    refused = there(received, "verify", "a.tar")
    assert refused.out.splitlines()[-1] == "not comparable"
    assert "was not trained here before; read it" in refused.out
    allowed = ("--trust-its-code", run.path.name)
    wrong = there(received, "verify", "a.tar", "--require-signed", "other.pub", *allowed)
    assert (wrong.status, "no provenance is signed by the key" in wrong.complaint) == (2, True)
    assert not (received / "cache" / "venvs").exists(), "nothing was installed so far"
    verified = there(received, "verify", "a.tar", "--require-signed", "mine.pub", *allowed)
    assert verified.out.splitlines()[-1] == "identical: 1 model, 1 file", verified.out + verified.err
    assert "package index" not in verified.err
    # Unpacked, it is an ordinary run. The wheels beside it are found again.
    shutil.rmtree(received / "cache")
    assert there(received, "unpack", "a.tar").status == 0
    assert there(received, "audit", "a/run", "--require-signed", "mine.pub").out.splitlines()[-1] == "as recorded"
    again = there(received, "verify", "a/run", *allowed)
    assert again.out.splitlines()[-1] == "identical: 1 model, 1 file", again.out + again.err
