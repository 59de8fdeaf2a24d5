"""A notebook becomes a script, or is refused by the cell."""

from pathlib import Path

import pytest

from samebits.core.errors import InputError
from samebits.core.notebook import cell_of, script_of
from support.command import write_notebook


def test_code_cells_in_order(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "a.ipynb", "x = 1\n", "  \n", ["def f():\n", "    return x\n"], "print(f())")
    script = script_of(notebook).decode()
    assert script == ("# %% cell 2\nx = 1\n\n# %% cell 4\ndef f():\n    return x\n\n# %% cell 5\nprint(f())\n")
    assert [cell_of(script, line) for line in (2, 5, 6, 9)] == [(2, 1), (4, 1), (4, 2), (5, 1)]


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("%pip install pandas", "line 1: %pip is a magic, not Python; list the packages in requirements.in,"),
        ("x = 1\n!pip3 install -q pandas", "line 2: !pip3 is a magic, not Python; list the packages"),
        ("!python -m pip install a", "line 1: !python is a magic, not Python; list the packages"),
        ("%matplotlib inline\nx = 1", "line 1: %matplotlib is a magic, not Python; remove the line: figures"),
        ("%%time\nfit()", "line 1: %%time is a magic, not Python; remove it, and keep the statement"),
        ("if x:\n    !wget http://a/b", "line 2: !wget is a magic, not Python; name files from outside with --data"),
        ("files = !ls", "line 1: !ls is a magic, not Python; remove the line"),
        ("t = %own 3", "line 1: %own is a magic, not Python; write it in Python, or remove it"),
        ("x = 1\nmodel.fit?", "line 2: model.fit? asks a notebook for help; remove it"),
        ("x = (", "line 1: not valid Python: '(' was never closed; fix it and run again"),
        ("await f()", "line 1: not valid Python: 'await' outside function; fix it and run again"),
        ("display(x)", "line 1: display: only a notebook has it; use print, or save the figure"),
        ("get_ipython().system('ls')", "line 1: get_ipython: only a notebook has it; write it in Python"),
    ],
)
def test_what_only_a_notebook_can_run(tmp_path: Path, source: str, complaint: str) -> None:
    notebook = write_notebook(tmp_path / "a.ipynb", "x = 1", source)
    with pytest.raises(InputError) as caught:
        script_of(notebook)
    assert complaint in str(caught.value).replace(f"the notebook {notebook}, cell 3", "") or str(caught.value) == (
        f"the notebook {notebook}, cell 3, {complaint}"
    )
    assert f"{notebook}, cell 3" in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "text = '''\n%pip install pandas\n!ls\n'''",
        "value = ('%d'\n% 3)",
        "from IPython.display import display\ndisplay(1)",
        "def display(x): return x\ndisplay(1)",
    ],
)
def test_what_only_looks_like_it(tmp_path: Path, source: str) -> None:
    assert source in script_of(write_notebook(tmp_path / "a.ipynb", source)).decode()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "cannot be read: not JSON: it is empty"),
        ("[]", "cannot be read: "),
        ('{"cells": []}', "cannot be read: missing value in 'nbformat'"),
        ('{"cells": [], "nbformat": 3}', "cannot be read: its format is 3, not 4"),
        ('{"cells": [{"source": 3, "cell_type": "code"}], "nbformat": 4}', "cannot be read: "),
        (
            '{"cells": [], "nbformat": 4, "metadata": {"kernelspec": {"language": "R"}}}',
            "its language is R,",
        ),
        ("[" * 100_000, "cannot be read: "),
        ("\udcff", "cannot be read: "),
    ],
)
def test_files_that_are_no_notebook(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "a.ipynb").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        script_of(tmp_path / "a.ipynb")
    assert complaint in str(caught.value)
    assert str(caught.value).endswith("; save it again in Jupyter")
