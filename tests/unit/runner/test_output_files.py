"""Which output files count in a result, and by what; those that hold no tensors."""

import json
import os
import re
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from samebits.core import output_walk
from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.output_walk import link_digest, list_outputs
from samebits.core.recipe import KNOWN_LOGS
from samebits.runner.digests.output_files import describe_outputs
from samebits.runner.observe.output_links import OutputLinks
from support.machine import unprivileged


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        ((), ["a.log", "deep/a.log", "deep/b.csv"]),
        (("a.log",), ["deep/a.log", "deep/b.csv"]),
        (("deep/*",), ["a.log"]),
        (("*.log",), ["deep/b.csv"]),
        (("b.csv",), ["a.log", "deep/a.log", "deep/b.csv"]),
    ],
)
def test_what_is_ignored(ignore: tuple[str, ...], left: list[str], tmp_path: Path) -> None:
    """A pattern is held against the whole path within the outputs."""
    (tmp_path / "deep").mkdir()
    for name in ("a.log", "deep/a.log", "deep/b.csv"):
        (tmp_path / name).write_text(name)
    found, left_out = describe_outputs(tmp_path, ignore)
    assert [item.path for item in found] == left
    assert sorted((*left, *left_out)) == ["a.log", "deep/a.log", "deep/b.csv"]
    assert [item.digest for item in found] == [str(Digest.of_bytes(name.encode())) for name in left]


def test_what_tensorboard_reads_is_a_known_log(tmp_path: Path) -> None:
    """Its files hold times and the name of the host."""
    event = "events.out.tfevents.1795773515.host.12.0.v2"
    names = (event, f"logs/train/{event}", "logs/plugins/profile/2026_11_27/host.xplane.pb", "logs/train/notes.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found, left_out = describe_outputs(tmp_path, KNOWN_LOGS)
    assert [item.path for item in found] == ["logs/train/notes.txt"]
    assert left_out == tuple(sorted(names[:3]))


def test_the_random_number_of_a_saved_model_is_left_out(tmp_path: Path) -> None:
    """`Model.export` writes it beside the model. A file of that name elsewhere counts."""
    names = ("exported/fingerprint.pb", "exported/saved_model.pb", "fingerprint.pb", "myfingerprint.pb")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found, left_out = describe_outputs(tmp_path, KNOWN_LOGS)
    assert [item.path for item in found] == ["exported/saved_model.pb", "fingerprint.pb", "myfingerprint.pb"]
    assert left_out == ("exported/fingerprint.pb",)


def test_a_link_counts_by_where_it_leads(tmp_path: Path) -> None:
    """Also one that leads nowhere."""
    (tmp_path / "one").symlink_to("gone")
    (tmp_path / "two").symlink_to(tmp_path / "lost")
    found = describe_outputs(tmp_path, ())[0]
    assert [(item.path, item.by) for item in found] == [("one", "link"), ("two", "link")]
    assert found[0].digest != found[1].digest


@pytest.mark.parametrize("target", ["/gone", "../..", "../../other/outputs/x", "/etc/hostname"])
def test_a_link_out_of_the_run(target: str, tmp_path: Path) -> None:
    """Nothing records what is there."""
    outputs = tmp_path / "run" / "outputs"
    outputs.mkdir(parents=True)
    (outputs / "link").symlink_to(target)
    with pytest.raises(InputError, match="outputs/link links out of the run"):
        describe_outputs(outputs, ())
    assert describe_outputs(outputs, ("link",)) == ((), ("link",))


def test_a_link_out_of_the_run_through_a_link(tmp_path: Path) -> None:
    """Its text stays inside; the links that it passes do not go down."""
    outputs = tmp_path / "run" / "outputs"
    outputs.mkdir(parents=True)
    (outputs / "here").symlink_to(".")
    (outputs / "link").symlink_to("here/here/here/../../../x")
    with pytest.raises(InputError, match="outputs/link links out of the run"):
        describe_outputs(outputs, ())
    (outputs / "link").unlink()
    (outputs / "link").symlink_to("here/here/../outputs/x")
    (outputs / "loop").symlink_to("loop")
    assert [item.path for item in describe_outputs(outputs, ())[0]] == ["here", "link", "loop"]


def test_what_has_no_content(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    os.mkfifo(tmp_path / "deep" / "pipe")
    with pytest.raises(InputError, match="outputs/deep/pipe is a pipe, which has no content to record"):
        describe_outputs(tmp_path, ())
    assert describe_outputs(tmp_path, ("*pipe",)) == ((), ("deep/pipe",))


@pytest.mark.parametrize("name", ["folder", "file"])
def test_what_cannot_be_read(name: str) -> None:
    with TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "folder").mkdir()
        (folder / "file").touch()
        (folder / name).chmod(0)
        with unprivileged(), pytest.raises(InputError, match=f"cannot read outputs/{name}: Permission denied"):
            describe_outputs(folder, ())


_LATER = "2026-11-27@10:00:02"


def _are_same(first: dict[str, object], second: dict[str, object], member: str, folder: Path) -> bool:
    """Whether two archives that hold these values have one digest."""
    for number, values in enumerate((first, second)):
        with zipfile.ZipFile(folder / f"{number}.keras", "w") as archive:
            archive.writestr(member, json.dumps(values))
    return len({item.digest for item in describe_outputs(folder, ())[0]}) == 1


def test_only_a_time_is_left_out_of_an_archive(tmp_path: Path) -> None:
    assert _are_same({"date_saved": "2026-11-27@10:00:01"}, {"date_saved": _LATER}, "metadata.json", tmp_path)
    assert not _are_same({"date_saved": "one"}, {"date_saved": "other"}, "metadata.json", tmp_path)
    assert not _are_same({"date_saved": "2026-11-27@10:00:01"}, {"date_saved": _LATER}, "config.json", tmp_path)


def test_only_an_address_is_left_out_of_an_archive(tmp_path: Path) -> None:
    one: dict[str, object] = {"class_name": "Dense", "shared_object_id": 1}
    other: dict[str, object] = {"class_name": "Dense", "shared_object_id": 2}
    assert _are_same({"a": one}, {"a": other}, "config.json", tmp_path)
    assert not _are_same({"shared_object_id": 1}, {"shared_object_id": 2}, "config.json", tmp_path)
    assert not _are_same({**one, "shared_object_id": "x"}, {**one, "shared_object_id": "y"}, "config.json", tmp_path)


def test_an_absolute_link_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its target counts from the outputs, wherever these are now, and however their path is written."""
    monkeypatch.chdir(tmp_path)
    outputs, seen = Path("outputs"), Path("/runs/a/outputs")
    outputs.mkdir()
    for name, target in (("here", "b/c"), ("there", "/runs/a/outputs/b/c"), ("elsewhere", "/runs/other/outputs/b/c")):
        (outputs / name).symlink_to(target)
    here, there, elsewhere = (link_digest(outputs / name, outputs, seen) for name in ("here", "there", "elsewhere"))
    assert here == there != elsewhere
    assert here == link_digest(tmp_path / "outputs" / "there", tmp_path / "outputs", seen)


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def test_holes_without_end_are_not_hashed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _sparse(tmp_path / name, 9 << 30)
    message = re.escape("outputs/two has 9663676416 bytes, and 0 of them on the disk: more than 16 GiB of holes")
    with pytest.raises(InputError, match=message):
        list_outputs(tmp_path, ())
    assert [name for name, _ in list_outputs(tmp_path, ("two",))[0]] == ["one"]


def test_one_file_under_many_names_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names are no holes, however many there are."""
    monkeypatch.setattr(output_walk, "MAX_HOLES", 10_000)
    (tmp_path / "0").write_bytes(bytes(4096))
    for number in range(1, 9):
        os.link(tmp_path / "0", tmp_path / str(number))
    read: list[Path] = []
    of_file = Digest.of_file

    def counted(path: Path) -> Digest:
        read.append(path)
        return of_file(path)

    monkeypatch.setattr(Digest, "of_file", counted)
    found, _ = describe_outputs(tmp_path, ())
    assert ([item.path for item in found], len(read)) == ([str(number) for number in range(9)], 1)
    assert {item.digest for item in found} == {str(of_file(tmp_path / "0"))}


def test_a_link_out_of_the_run_is_named_while_it_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outputs = tmp_path / "run" / "outputs"
    outputs.mkdir(parents=True)
    for name in ("out", "left-out"):
        (outputs / name).symlink_to("/etc/passwd")
    (outputs / "in").symlink_to("out.txt")
    links = OutputLinks(folder=outputs, ignore=("left-*",))
    links.look()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("samebits: outputs/out links out of the run, to /etc/passwd")
    assert lines[0].endswith("; if it is still there when the script ends, the run fails")
    links._next = 0.0
    links.look()
    assert capfd.readouterr().err == ""
