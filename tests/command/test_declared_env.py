"""Variables that a script is meant to see, in either runtime: recorded, compared and given again."""

from samebits.core.recipe import differing_parts
from samebits.core.record import read_record
from support.command import Project, call

_SCRIPT = (
    "import os, pathlib\n"
    "print('LR', os.environ.get('LR'))\nprint('NOTE', os.environ.get('NOTE'))\n"
    "pathlib.Path(os.environ['SAMEBITS_OUTPUT'], 'rate.txt').write_text(os.environ.get('LR', 'none'))\n"
)


def test_it_is_seen_recorded_and_verified(each_runtime: Project) -> None:
    project = each_runtime
    project.write(_SCRIPT)
    hidden = project.train(LR="0.5", NOTE="x")
    assert (hidden.line("LR"), hidden.line("NOTE")) == ("None", "None")
    (project.folder / "samebits.toml").write_text('env = ["LR"]\n')
    done = project.train(LR="0.5", NOTE="x")
    assert (done.line("LR"), done.line("NOTE")) == ("0.5", "None")
    assert project.train(LR="0.5").line("recipe") == done.line("recipe")
    other = project.train("--env", "LR=0.1", LR="0.5")
    records = [read_record(project.folder / item.run / "record.json") for item in (done, other)]
    assert [record.recipe.env for record in records] == [{"LR": "0.5"}, {"LR": "0.1"}]
    assert differing_parts(records[0].recipe, records[1].recipe) == ["env.LR"]
    assert "inputs recipe env.LR: 0.5 -> 0.1" in call("diff", done.run.name, other.run.name, folder=project.folder).out
    assert ["variable", "LR=0.1"] in [
        line.split() for line in call("show", other.run.name, folder=project.folder).out.splitlines()
    ]
    # The recorded value counts, not that of whoever verifies.
    verified = call("verify", done.run.name, folder=project.folder, LR="7")
    assert (verified.status, verified.out.splitlines()[-1].partition(":")[0]) == (0, "identical"), verified.err


def test_what_is_refused(project: Project) -> None:
    assert project.train("--env", "API_KEY=x").complaint == (
        "the variable API_KEY looks like a credential, and a record shows its value; do not declare it"
    )
    assert project.train("--env", "SHE").complaint == (
        "the variable SHE is declared and has no value; set it, or write --env SHE=VALUE"
    )
