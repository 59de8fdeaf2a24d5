"""A notebook as a script: the source of its code cells, in order.

A notebook is JSON (nbformat 4). What only an interactive session can run is refused, with the cell and a replacement.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import Fields, parse_json
from samebits.core.run_files import MAX_JSON_BYTES, read_given

SUFFIX = ".ipynb"
_MAJOR = 4
_PACKAGES = "list the packages in requirements.in, and remove the line"
_INSTEAD = {
    "pip": _PACKAGES,
    "conda": _PACKAGES,
    "mamba": _PACKAGES,
    "uv": _PACKAGES,
    "apt": "the image has no other system packages; remove the line",
    "apt-get": "the image has no other system packages; remove the line",
    "matplotlib": "remove the line: figures are saved with savefig",
    "load_ext": "remove the line",
    "tensorboard": "remove the line: TensorBoard reads the run's outputs afterwards",
    "autoreload": "remove the line",
    "time": "remove it, and keep the statement",
    "timeit": "remove it, and keep the statement",
    "capture": "remove the line",
    "env": "write os.environ[NAME] = VALUE",
    "set_env": "write os.environ[NAME] = VALUE",
    "cd": "write os.chdir(FOLDER)",
    "run": "import the other file",
    "writefile": "put that file beside the notebook, and remove the cell",
    "wget": "name files from outside with --data",
    "curl": "name files from outside with --data",
    "gdown": "name files from outside with --data",
    "git": "put what it fetches beside the notebook, or name it with --data",
    "mkdir": "write os.makedirs(FOLDER, exist_ok=True)",
    "ls": "remove the line",
}
"""What to write instead of a magic, or of a program after `!`."""

# A cell that is no Python holds one of these: `%name`, `%%name`, `!program`, `x = %name`, `x = !program`, `name?`.
_MAGIC = re.compile(r"^\s*(?:[\w.,\s]+=\s*)?(%%?|!!?)\s*([\w.-]*)")
_HELP = re.compile(r"^\s*\?{1,2}[\w.]+\s*$|^\s*[\w.]+\?{1,2}\s*$")
_INTERACTIVE = {
    "get_ipython": "only a notebook has it; write it in Python",
    "display": "only a notebook has it; use print, or save the figure",
}


def is_notebook(path: Path) -> bool:
    """Whether a script is a notebook, by its name."""
    return path.suffix == SUFFIX


def script_of(path: Path) -> bytes:
    """The notebook as a script; raises InputError for a file that is no notebook, and for what no script can run."""
    cells = list(_code_cells(path))
    defined: set[str] = set()
    for number, source in cells:
        _check_cell(path, number, source, defined)
    # The comments keep a line of a traceback findable in the notebook.
    parts = [f"# %% cell {number}\n{source.rstrip()}\n" for number, source in cells]
    return "\n".join(parts).encode()


def cell_of(script: str, line: int) -> tuple[int, int]:
    """The cell, and the line in it, of a line of a script that `script_of` made."""
    above = script.splitlines()[:line]
    start = max((at for at, text in enumerate(above) if text.startswith("# %% cell ")), default=0)
    number = above[start].rpartition(" ")[2] if above else ""
    return int(number) if number.isdecimal() else 0, line - start - 1


def _code_cells(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1, as Jupyter's list of all cells) and source of every code cell that is not empty."""
    try:
        notebook = Fields(parse_json(read_given(path, MAX_JSON_BYTES, anywhere=True)))
        _check_form(notebook)
        for number, cell in enumerate(notebook.objects("cells"), start=1):
            source = _source(cell)
            if cell.get("cell_type", str) == "code" and source.strip():
                yield number, source
    except (ValueError, RecordError) as error:
        raise InputError(f"the notebook {path} cannot be read: {error}; save it again in Jupyter") from error


def _check_form(notebook: Fields) -> None:
    major = notebook.get("nbformat", int)
    if major != _MAJOR:
        raise RecordError(f"its format is {major}, not {_MAJOR}")
    metadata = notebook.optional_inner("metadata") or Fields({})
    kernel = metadata.optional_inner("kernelspec") or Fields({})
    language = kernel.optional("language", str) or "python"
    if language.lower() != "python":
        raise RecordError(f"its language is {language}, not Python")


def _source(cell: Fields) -> str:
    """The text of a cell, which is stored as one text or as lines."""
    value = cell.rest().get("source", "")
    return value if isinstance(value, str) else "".join(cell.texts("source"))


def _check_cell(path: Path, number: int, source: str, defined: set[str]) -> None:
    """Raise InputError unless the cell is Python; adds the names that it defines."""
    where = f"the notebook {path}, cell {number}"
    try:
        tree = ast.parse(source)
        compile(source, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{where}: {_reason(source, error)}") from error
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    defined |= {node.id for node in names if not isinstance(node.ctx, ast.Load)} | set(_bound(tree))
    for node in names:
        if node.id in _INTERACTIVE and node.id not in defined:
            raise InputError(f"{where}, line {node.lineno}: {node.id}: {_INTERACTIVE[node.id]}")


def _bound(tree: ast.Module) -> Iterator[str]:
    """The names that imports, functions and classes define."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (item.asname or item.name.partition(".")[0] for item in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name


def _reason(source: str, error: Exception) -> str:
    """Why a cell is no Python: a magic, or the error itself."""
    for line, text in enumerate(source.splitlines(), start=1):
        found = _MAGIC.match(text)
        if found is not None:
            sign, name = found.groups()
            instead = _INSTEAD.get(_program(name, text), "write it in Python, or remove it")
            return f"line {line}: {sign}{name} is a magic, not Python; {instead}"
        if _HELP.match(text):
            return f"line {line}: {text.strip()} asks a notebook for help; remove it"
    if isinstance(error, SyntaxError):
        return f"line {error.lineno or 1}: not valid Python: {error.msg}; fix it and run again"
    return f"not Python source: {error}; fix it and run again"


def _program(name: str, text: str) -> str:
    """What a line calls: `pip` for `!python -m pip` and `!pip3`."""
    if "pip" in text.partition(name)[2].split()[:2] or name == "pip3":
        return "pip"
    return name
