"""Apptainer in Docker's place, without it: what it is asked for, and what its containers must not be able to do."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.errors import EngineError, ImageError, InputError, NoEngineError
from samebits.host.apptainer import Apptainer, Unpacked, open_ways, plan_call
from samebits.host.container_request import ContainerRequest

_IMAGE = Unpacked(rootfs=Path("/cache/1/rootfs"), entrypoint=("/python", "-I"), folder="/work")
_REQUEST = ContainerRequest(image="i", command=("--run", "/runs/1"), environment={}, mounts=(), user="1:1")
_STATUS = "".join(f"{name}:\t{'0' * 16}\n" for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
_CLOSED = f"Name:\tcat\n{_STATUS}NoNewPrivs:\t1\nInter-| Receive\n face |bytes\n    lo: {'0 ' * 16}\n"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A program in Apptainer's place, which is a shell script."""

    def write(text: str) -> None:
        (tmp_path / "apptainer").write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "apptainer").chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return write


def test_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoEngineError, match=r"^Apptainer is not installed; install it, or choose another --runtime$"):
        Apptainer()


def test_it_does_not_start(program: Callable[[str], None]) -> None:
    program("echo 'no C library' >&2; exit 127")
    with pytest.raises(NoEngineError, match=r"^Apptainer does not start: .* status 127: no C library$"):
        Apptainer()


def test_its_name_and_version(program: Callable[[str], None]) -> None:
    program("echo apptainer version 1.4.5")
    described = Apptainer().describe()
    assert (described.name, described.version) == ("Apptainer", "1.4.5")


def test_a_closed_container() -> None:
    assert open_ways(_CLOSED) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (("CapEff:\t0000000000000000", "CapEff:\t00000000a80425fb"), "it has CapEff 00000000a80425fb"),
        (("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff"), "it has CapBnd 000001ffffffffff"),
        (("NoNewPrivs:\t1", "NoNewPrivs:\t0"), "programs may gain privileges"),
        (("    lo:", f"  eth0: {'1 ' * 16}\n    lo:"), "it has the network eth0"),
        (("    lo:", f"  eth0:{'1 ' * 16}\n    lo:"), "it has the network eth0"),
        ((f"    lo: {'0 ' * 16}\n", ""), "it shows no network at all"),
        (("Name:\tcat", "Writable: /usr"), "it may write to /usr"),
        ((_CLOSED, ""), "it has CapInh None"),
    ],
)
def test_an_open_container(change: tuple[str, str], found: str) -> None:
    changed = _CLOSED.replace(*change)
    assert changed != _CLOSED
    assert found in open_ways(changed)


def test_an_open_container_is_refused(program: Callable[[str], None]) -> None:
    program(f"[ $1 = --version ] && exit; printf '{_CLOSED}Writable: /etc\n'")
    with pytest.raises(EngineError, match=r"^Apptainer does not close its containers here: it may write to /etc; choo"):
        Apptainer().check_isolation(_IMAGE)


def test_a_container_that_does_not_start(program: Callable[[str], None]) -> None:
    program("[ $1 = --version ] && exit; echo 'FATAL: user namespaces are off' >&2; exit 255")
    with pytest.raises(EngineError, match=r"status 255: FATAL: user namespaces are off; ask the site for user names"):
        Apptainer().check_isolation(_IMAGE)


def test_the_call_for_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    request = replace(
        _REQUEST,
        environment={"A": "b", "TF_X": None},
        mounts=((Path("/run:s"), "/runs/1", False), (Path("/data"), "/data", True)),
        watches=True,
    )
    assert plan_call(request, _IMAGE, Path("/scratch")).command == (
        *("apptainer", "--silent", "exec", "--containall", "--cleanenv", "--no-home", "--no-privs"),
        *("--no-mount", "home,tmp,cwd,hostfs,bind-paths", "--no-eval", "--net", "--network", "none", "--no-init"),
        *("--pwd", "/work"),
        *("--mount", "type=bind,src=/scratch,dst=/tmp"),
        *("--mount", "type=bind,src=/run:s,dst=/runs/1"),
        *("--mount", "type=bind,src=/data,dst=/data,ro"),
        *("/cache/1/rootfs", "/usr/bin/env", "-u", "LD_LIBRARY_PATH", "-u", "TF_X"),
        *("/python", "-I", "--run", "/runs/1"),
    )


def test_what_depends_on_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    fetch = replace(_REQUEST, network="bridge", mounts=((Path("/home/me"), "/tmp", False),))
    words = plan_call(fetch, _IMAGE, Path("/scratch")).command
    # Root has no rights of its own there; the home folder of a fetch is in the place of /tmp.
    assert "--userns" in words
    assert not {"--net", "--no-init"} & set(words)
    assert [word for word in words if word.startswith("type=")] == ["type=bind,src=/home/me,dst=/tmp"]


def test_nothing_of_the_site_gets_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of a site may mount folders, or set variables in the container."""
    for name in ("APPTAINER_BIND", "SINGULARITY_BINDPATH", "APPTAINERENV_LD_PRELOAD", "SINGULARITYENV_TF_X", "SECRET"):
        monkeypatch.setenv(name, "/etc:/mnt")
    request = replace(_REQUEST, environment={"SAMEBITS_REDACTED": "$(id)"})
    call = plan_call(request, _IMAGE, Path("/scratch"))
    assert {
        name: value for name, value in call.environment.items() if name not in ("HOME", "LANG", "PATH", "USER")
    } == {
        **({"XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"]} if "XDG_RUNTIME_DIR" in os.environ else {}),
        "APPTAINERENV_SAMEBITS_REDACTED": "$(id)",
    }
    # Every user of the machine can read the words of a command.
    assert "$(id)" not in " ".join(call.command)


@pytest.mark.parametrize("name", ["data,src=/root/.ssh", "x,ro=false", 'x"', "x\ny"])
def test_a_name_that_is_read_as_options(name: str) -> None:
    request = replace(_REQUEST, mounts=((Path("/data") / name, "/data", True),))
    with pytest.raises(InputError, match=r"^Apptainer cannot mount .*; rename it, or use Docker$"):
        plan_call(request, _IMAGE, Path("/scratch"))


def test_what_it_cannot_unpack_or_pull(program: Callable[[str], None], tmp_path: Path) -> None:
    program("[ $1 = --version ] && exit; echo 'FATAL: no space' >&2; exit 255")
    (tmp_path / "layout").mkdir()
    with pytest.raises(ImageError, match=r"^Apptainer cannot unpack the image: .* FATAL: no space$"):
        Apptainer().unpack(tmp_path / "layout", tmp_path / "rootfs")
    with pytest.raises(EngineError, match=r"^Apptainer cannot pull here/x@sha256:1: .* FATAL: no space$"):
        Apptainer().pull("here/x@sha256:1", tmp_path)
