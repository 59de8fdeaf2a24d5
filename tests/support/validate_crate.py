"""`python validate_crate.py CONTEXT CRATE …`: run `rocrate-validator` without a network.

It reads what a crate's `@context` names; here these come from CONTEXT, a file of RO-Crate's own package. Not a test's
own module: it runs in the environment of `tools/export.sh`.
"""

import json
import sys
from types import SimpleNamespace
from typing import Any

_CRATE, _RUN = "https://w3id.org/ro/crate/", "https://w3id.org/ro/terms/workflow-run"
_TERMS = ("ContainerImage", "DockerImage", "containerImage", "environment", "md5", "registry", "sha256", "tag")


def main(context: str, words: list[str]) -> None:
    """Validate with every option of the command line."""
    from rocrate_validator.cli.main import cli
    from rocrate_validator.utils.http import HttpRequester

    with open(context, encoding="utf-8") as file:
        known = json.load(file)
    terms = {"@context": {name: f"{_RUN}#{name}" for name in _TERMS}}

    def get(_: Any, url: str, **__: Any) -> Any:
        found = known if url.startswith(_CRATE) else terms if url.startswith(_RUN) else None
        if found is None:
            raise OSError(f"no network: {url}")
        headers = {"Content-Type": "application/ld+json"}
        return SimpleNamespace(status_code=200, headers=headers, json=lambda: found, text=json.dumps(found))

    HttpRequester.get = get
    cli(["-y", "--disable-color", "validate", *words])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
