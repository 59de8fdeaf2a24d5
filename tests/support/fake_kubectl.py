"""A `kubectl` that answers from files, and writes down what it is asked."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_SCRIPT = """#!/bin/sh
cd {folder} || exit 9
printf '%s\\n' "$*" >> asked
case " $* " in
  *" version "*) name=version ;;
  *" config view "*) name=config ;;
  *" create "*) name=create ;;
  *" get job "*) name=job ;;
  *" get pods "*) name=pods ;;
  *" get events "*) name=events ;;
  *" delete "*) name=delete ;;
  *) exit 9 ;;
esac
if [ -e $name.error ]; then cat $name.error >&2; exit 1; fi
[ ! -e $name ] || cat $name
"""


@dataclass(frozen=True)
class Kubectl:
    """Its answers, by what is asked for."""

    folder: Path

    def answers(self, name: str, value: object) -> None:
        """What it prints from now on."""
        (self.folder / f"{name}.error").unlink(missing_ok=True)
        # A follower may ask at any time.
        draft = self.folder / f"{name}.draft"
        draft.write_text(value if isinstance(value, str) else json.dumps(value))
        os.replace(draft, self.folder / name)

    def refuses(self, name: str, message: str) -> None:
        """What it prints on stderr, and fails."""
        (self.folder / f"{name}.error").write_text(message)

    def asked(self) -> list[str]:
        """The arguments of each call."""
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def has_pods(self, *pods: dict[str, Any]) -> None:
        """The pods of the job."""
        self.answers("pods", {"items": list(pods)})


def pod(**status: Any) -> dict[str, Any]:
    """A pod on the node n1, with one container in a state."""
    container = {name: status.pop(name) for name in ("state", "imageID") if name in status}
    metadata = {"name": "p", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", **status.pop("metadata", {})}
    containers = {"containerStatuses": [container]} if container else {}
    return {
        "metadata": metadata,
        "spec": {"nodeName": status.pop("node", "n1")},
        "status": {"phase": status.pop("phase", "Pending"), **containers, **status},
    }


@pytest.fixture
def kubectl(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    """The first `kubectl` on the path, with a cluster of version 1.31 that takes everything."""
    folder = tmp_path_factory.mktemp("kubectl")
    program = folder / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(_SCRIPT.format(folder=folder))
    program.chmod(0o755)
    (folder / "kubeconfig").write_text("{}")
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
    found = Kubectl(folder)
    found.answers("version", {"serverVersion": {"gitVersion": "v1.31.2"}})
    found.answers("config", "team\n")
    found.answers("create", {"metadata": {"uid": "1-2"}})
    found.answers("job", {"metadata": {"uid": "1-2"}, "spec": {}, "status": {}})
    found.answers("events", {"items": []})
    found.has_pods()
    return found
