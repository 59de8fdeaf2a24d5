"""One HTML file from a template: escaped, without network, with the same bytes for the same runs."""

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samebits.core.errors import InputError
from samebits.core.jsonio import write_atomically
from samebits.core.printable import printable

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: Any) -> bytes:
    """The page of a template; everything in `values` is text that is not trusted."""
    style, script = _part("style.css"), _part("page.js")
    text = (
        _environment()
        .get_template(template)
        .render(**values, style=style, script=script, policy=_policy(style, script))
    )
    return text.encode("utf-8", "backslashreplace")


def check_target(path: Path | None) -> None:
    """Raise InputError for a place where no page can be written; None is no place."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise InputError(f"cannot write {path}: it is a folder, or its folder does not exist; name a file")


def write_page(path: Path, page: bytes) -> None:
    """Write a page atomically; raises InputError for a place that cannot be written, StorageError on a full disk."""
    check_target(path)
    write_atomically(path, page, mode=0o644)


def visible(value: object) -> object:
    """A text with its control characters escaped, but for line breaks and tabs; anything else unchanged."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return printable(value, keep="\n\t")


def embedded_json(value: object) -> str:
    """JSON to stand in a script element: a JSON parser gives the value back, an HTML parser finds no tag in it."""
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _environment() -> "Environment":
    # Imported here: no other command needs a template.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("samebits.host.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embedded_json"] = embedded_json
    return environment


@cache
def _part(name: str) -> str:
    return files("samebits.host.report").joinpath("templates", name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """A content security policy that allows the page's own style and script by hash, and nothing else."""
    own = f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    return f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
