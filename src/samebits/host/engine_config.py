"""Is a container engine configured on this machine, whether or not it answers?"""

import os
from pathlib import Path

from samebits.core.jsonio import parse_json
from samebits.core.run_files import read_given

SOCKET = "/var/run/docker.sock"


def is_configured() -> bool:
    """Whether an engine is meant to be here, though it does not answer: then nothing may run without its isolation."""
    if os.environ.get("DOCKER_HOST") or os.environ.get("DOCKER_CONTEXT") or os.path.lexists(SOCKET):
        return True
    folder = Path(os.environ.get("DOCKER_CONFIG") or "~/.docker").expanduser()
    try:
        context = parse_json(read_given(folder / "config.json", anywhere=True)).get("currentContext")
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError):
        return True
    return context not in (None, "", "default")
