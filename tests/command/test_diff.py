"""Two runs compared, as a user compares them."""

from support.command import Done, Project, call


def test_two_trainings(project: Project) -> None:
    """For real: one data byte, and then nothing, is changed."""
    runs = [_trained(project)]
    runs.append(_trained(project))
    data = project.data / "numbers.csv"
    data.write_text(data.read_text().replace("1", "2", 1))
    runs.append(_trained(project))
    same, other = (call("diff", runs[0].run.name, run.run.name, folder=project.folder) for run in runs[1:])
    assert (same.status, same.out) == (0, "identical: 1 model, 1 file\n")
    assert other.status == 1
    lines = other.out.splitlines()
    assert lines[0].startswith("inputs recipe data.tree: sha256:")
    assert lines[1].startswith("inputs data numbers.csv: sha256:")
    assert lines[2].startswith("outputs ledger fit 0, epoch 0, metrics.")
    assert any(line.startswith("outputs tensor model 0, trainable, ") for line in lines)
    assert lines[-1] == "different"


def _trained(project: Project) -> Done:
    done = project.train()
    assert done.status == 0, done.err
    return done
