"""The git commit of a run's code: what is recorded, and that a hostile repository starts nothing."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.origin import GitCommit
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.host.launch.git_commit import without_credentials
from samebits.host.signing.statements import provenance
from support.fake_runner import Played, played

__all__ = ["played"]

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is not in the project."""
    return tmp_path_factory.mktemp("outside")


@pytest.fixture(autouse=True)
def _own_configuration(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = outside / "gitconfig"
    path.write_text("[user]\nname = a\nemail = a@example.org\n[init]\ndefaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def git(*words: str, folder: Path = Path()) -> str:
    return subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True, text=True).stdout.strip()


def recorded(run: RunDir) -> GitCommit:
    found = run.read().origin.git
    assert found is not None
    return found


def commit_all(folder: Path = Path()) -> str:
    git("add", "-A", folder=folder)
    git("commit", "-qm", "a", folder=folder)
    return git("rev-parse", "HEAD", folder=folder)


@pytest.fixture
def repository(played: Played) -> Played:
    """The project is a folder of a repository that ignores its runs."""
    Path(".gitignore").write_text("runs/\n")
    git("init", "-q")
    return played


def test_clean_and_dirty(repository: Played) -> None:
    commit = commit_all()
    git("remote", "add", "mirror", "/srv/mirror.git")
    git("remote", "add", "origin", "https://me:secret@example.org/a/b.git?token=secret")
    run = repository.train()
    assert recorded(run) == GitCommit(commit=commit, changed=0, remote="https://example.org/a/b.git")
    assert b"secret" not in run.record.read_bytes()
    shown = repository.call("show", run.path.name).out
    assert commit in shown
    assert "https://example.org/a/b.git" in shown

    with Path("train.py").open("a") as file:
        file.write("# changed\n")
    Path("more.py").write_text("")
    dirty = repository.train()
    assert recorded(dirty) == GitCommit(commit=commit, changed=2, remote="https://example.org/a/b.git")
    done = repository.call("diff", run.path.name, dirty.path.name)
    assert "inputs git changed: 0 -> 2" in done.out
    assert recorded(dirty).dirty


def _signed_commits(run: RunDir, record: Record) -> list[str]:
    found = provenance(run, record)["predicate"]["buildDefinition"]["resolvedDependencies"]
    return [item["digest"]["gitCommit"] for item in found if item["name"] == "git"]


def test_a_commit_that_another_run_names_is_not_taken_over(repository: Played) -> None:
    """A received record may name any commit."""
    commit = commit_all()
    repository.player.dies = 0, 2
    killed = repository.train()
    repository.player.dies = None
    done = repository.call("resume", killed.path.name)
    assert done.status == 0, done.err
    new = RunDir(done.run).read()
    assert (recorded(killed).commit, new.origin.git) == (commit, None)
    copied = replace(new, origin=replace(new.origin, git=recorded(killed)))
    assert _signed_commits(RunDir(done.run), copied) == []
    assert _signed_commits(killed, killed.read()) == [commit]


def test_it_is_no_part_of_the_recipe(repository: Played) -> None:
    outside = repository.train().read()
    commit_all()
    inside = repository.train().read()
    assert outside.origin.git is None
    assert inside.origin.git is not None
    assert outside.recipe.digest == inside.recipe.digest


def test_a_removed_file_and_a_mode(repository: Played) -> None:
    Path("gone.py").write_text("")
    commit_all()
    Path("gone.py").unlink()
    Path("train.py").chmod(0o755)
    assert recorded(repository.train()).changed == 2


def test_links_and_submodules(repository: Played, outside: Path) -> None:
    other = outside / "other"
    other.mkdir()
    git("init", "-q", folder=other)
    (other / "part.py").write_text("")
    commit_all(other)
    git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other), "sub")
    os.symlink("train.py", "link.py")
    commit_all()
    assert recorded(repository.train()).changed == 0
    Path("sub/part.py").write_text("1\n")
    assert recorded(repository.train()).changed == 1


def test_detached_shallow_and_a_worktree(repository: Played, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit_all()
    Path("train.py").write_text(Path("train.py").read_text() + "# 2\n")
    commit = commit_all()
    git("clone", "-q", "--depth", "1", f"file://{Path.cwd()}", str(outside / "shallow"))
    git("checkout", "-q", "--detach", folder=outside / "shallow")
    git("worktree", "add", "-q", "--detach", str(outside / "tree"))
    for folder in (outside / "shallow", outside / "tree"):
        monkeypatch.chdir(folder)
        assert recorded(repository.train()).commit == commit
        assert recorded(repository.train()).changed == 0


def test_an_ignored_folder_is_not_of_the_repository(repository: Played) -> None:
    Path(".gitignore").write_text("*\n")
    git("add", "-f", ".gitignore")
    git("commit", "-qm", "a")
    assert repository.train().read().origin.git is None


def test_the_variables_of_a_hook(repository: Played, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = commit_all()
    monkeypatch.setenv("GIT_DIR", str(outside / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(outside / "index"))
    assert recorded(repository.train()).commit == commit


def test_without_a_commit_or_git(repository: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    done = repository.call("train", "train.py", "--data", "data")
    assert (done.status, "no git commit is recorded" in done.err) == (0, True)
    commit_all()
    monkeypatch.setattr("samebits.host.subprocesses.shutil.which", lambda _: None)
    assert repository.train().read().origin.git is None


def test_a_hostile_repository_starts_nothing(repository: Played, outside: Path) -> None:
    """Each of these would be started by an ordinary `git status`, or by reading an object that is missing."""
    Path(".gitattributes").write_text("* filter=evil diff=evil\n")
    commit_all()
    marker = outside / "started"
    evil = outside / "evil.sh"
    evil.write_text(f"#!/bin/sh\ntouch {marker}\n")
    evil.chmod(0o755)
    for name in ("post-index-change", "post-checkout", "pre-auto-gc", "reference-transaction"):
        shutil.copy(evil, Path(".git/hooks") / name)
    for name, value in {
        "core.fsmonitor": evil,
        "core.sshCommand": evil,
        "core.pager": evil,
        "core.gitProxy": evil,
        "core.askPass": evil,
        "filter.evil.clean": evil,
        "filter.evil.process": evil,
        "diff.evil.textconv": evil,
        "credential.helper": evil,
        "alias.ls-tree": f"!{evil}",
        "alias.rev-parse": f"!{evil}",
        "remote.origin.url": "ssh://example.org/a",
        "remote.origin.uploadpack": evil,
        "remote.origin.promisor": "true",
        "remote.origin.partialclonefilter": "blob:none",
        "protocol.ssh.allow": "always",
        "extensions.partialClone": "origin",
    }.items():
        git("config", name, str(value))
    git("config", "core.repositoryFormatVersion", "1")
    assert recorded(repository.train()).changed == 0
    # A partial clone fetches what is missing: here the tree of the commit.
    tree = subprocess.run(["git", "rev-parse", "HEAD^{tree}"], check=True, capture_output=True, text=True).stdout
    Path(f".git/objects/{tree[:2]}/{tree[2:].strip()}").unlink()
    assert repository.train().read().origin.git is None
    assert not marker.exists()
    # The test is worth something only if git would have started it.
    subprocess.run(["git", "-c", "core.fsmonitor=false", "ls-tree", "HEAD"], check=False, capture_output=True)
    assert marker.exists()


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://user:secret@example.org/a.git", "https://example.org/a.git"),
        ("https://secret@example.org:8443/a.git?secret#secret", "https://example.org:8443/a.git"),
        ("ssh://git@example.org/a.git", "ssh://git@example.org/a.git"),
        ("ssh://me:secret@example.org/a.git", "ssh://example.org/a.git"),
        ("git@example.org:a/b.git", "git@example.org:a/b.git"),
        ("me@example.org:a/b.git", "example.org:a/b.git"),
        ("example.org:a/b.git", "example.org:a/b.git"),
        ("/srv/a.git", "/srv/a.git"),
        ("ext::sh -c secret", None),
        ("secret::https://example.org", None),
        ("https://[broken/a", None),
        ("oauth2:TOKEN@gitlab.com:g/x.git", None),
        ("https://user:pa/ss@example.org/a.git", None),
        ("https://user:pa#ss@example.org/a.git", None),
        ("https://user:pa?ss@example.org/a.git", None),
        ("https://user:pa#ss", None),
        ("https://user:p@ss@example.org/a.git", "https://example.org/a.git"),
        ("https:/user:secret@example.org/a", None),
        ("git@example.org:a/secret@b.git", None),
        ("git:secret@example.org:a/b.git", None),
        ("ssh://git:secret@example.org/a.git", "ssh://example.org/a.git"),
        ("https://git@example.org/a.git", "https://example.org/a.git"),
        ("https://example.org/a\x1b[2Jb", r"https://example.org/a\x1b[2Jb"),
    ],
)
def test_remotes(url: str, kept: str | None) -> None:
    assert without_credentials(url) == kept


def test_a_home_folder_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert without_credentials("/home/somebody/a.git") == "~/a.git"
    assert without_credentials("file:///home/somebody/a.git") == "file://~/a.git"
    assert without_credentials("file:///home/somebody-else/a.git") == "file:///home/somebody-else/a.git"
    assert without_credentials("ssh://git@example.org/home/somebody/a.git") == "ssh://git@example.org/~/a.git"
    assert without_credentials("example.org:/home/somebody/a.git") == "example.org:~/a.git"
