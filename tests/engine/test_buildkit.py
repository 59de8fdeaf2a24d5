"""Which BuildKit builds: samebits's own if it is available, else the engine's; logged and recorded in both cases.

The real image of BuildKit is used where a registry gives it. Elsewhere the daemon of a private engine, which embeds
BuildKit, stands in for it: in a container of its own, with a registry beside it, and to buildx there is no difference.
"""

import json
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import ToolError
from samebits.host.docker import Engine, Image
from samebits.host.image import buildkit as module
from samebits.host.image.base_image import default_base
from samebits.host.image.build import (
    BuildPlan,
    build_from_context,
    context_folder,
    known_metadata,
    plan_build,
    require_image,
)
from samebits.host.image.buildkit import BUILDKIT, Builder, builder_name, choose_builder, create_command
from samebits.host.image.rebuild import compare
from samebits.host.image.wheelhouse import prepare_wheelhouse
from samebits.host.subprocesses import run_tool
from support.command import call
from support.images import small_kind

_NOWHERE = f"127.0.0.1:9/moby/buildkit:v0@sha256:{'0' * 64}"


@pytest.fixture(autouse=True)
def _nobody_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUILDX_BUILDER", raising=False)


def _docker(*words: str | Path, check: bool = True) -> str:
    return subprocess.run(["docker", *words], check=check, capture_output=True, text=True).stdout


def test_the_pinned_builder() -> None:
    assert builder_name(BUILDKIT) == "samebits-de10faf919fc"
    assert create_command("samebits-de10faf919fc", BUILDKIT) == [
        *("docker", "buildx", "create", "--name", "samebits-de10faf919fc", "--driver", "docker-container"),
        *("--driver-opt", f"image={BUILDKIT}"),
    ]


_NEW = f"""\
Name:          samebits-de10faf919fc
Driver:        docker-container

Nodes:
Name:                  samebits-de10faf919fc0
Driver Options:        network="host" image="{BUILDKIT}"
BuildKit version:      v0.26.2
"""


def test_what_inspect_says() -> None:
    described = module._parse_inspect(_NEW)
    assert described == {
        "name": "samebits-de10faf919fc0",
        "driver": "docker-container",
        "buildkit": "v0.26.2",
        "image": BUILDKIT,
    }
    old = module._parse_inspect("Name:   default\nDriver: docker\n\nNodes:\nName: default\nBuildkit: 0.11.6\n")
    assert old == {"name": "default", "driver": "docker", "buildkit": "0.11.6", "image": None}


@pytest.mark.usefixtures("engine")
def test_a_base_that_only_the_engine_has_settles_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise AssertionError

    monkeypatch.setattr(module, "run_tool", refuse)
    chosen = choose_builder(Engine(), "samebits-base:trixie")
    assert chosen == Builder(name=None, reason="only the engine has samebits-base:trixie")
    assert chosen.options == ()
    monkeypatch.setenv("BUILDX_BUILDER", "another")
    chosen = choose_builder(Engine(), "samebits-base:trixie")
    assert chosen.options == ("--builder", "another")
    assert str(chosen) == "the builder another (named by BUILDX_BUILDER)"


@pytest.mark.usefixtures("engine")
def test_a_registry_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    base = f"python@sha256:{'0' * 64}"
    before = _docker("buildx", "ls")
    started = time.monotonic()
    assert choose_builder(Engine(), base, buildkit=_NOWHERE) == Builder(
        name=None, reason=f"no registry serves {_NOWHERE}"
    )
    assert choose_builder(Engine(), base, buildkit=_NOWHERE, offline=True) == Builder(
        name=None, reason=f"{_NOWHERE} cannot be pulled offline"
    )
    assert time.monotonic() - started < 60
    assert _docker("buildx", "ls") == before
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("engine")
def test_a_registry_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REGISTRY_TIMEOUT", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        buildkit = f"127.0.0.1:{silent.getsockname()[1]}/moby/buildkit:v0@sha256:{'0' * 64}"
        started = time.monotonic()
        chosen = choose_builder(Engine(), f"python@sha256:{'0' * 64}", buildkit=buildkit)
        assert 1 <= time.monotonic() - started < 30
    assert chosen == Builder(name=None, reason=f"no registry serves {buildkit}")


@pytest.mark.usefixtures("engine")
def test_an_image_that_is_no_buildkit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts, and BuildKit never answers: nothing of it is left."""
    monkeypatch.setattr(module, "_START_TIMEOUT", 3)
    chosen = choose_builder(Engine(), f"python@sha256:{'0' * 64}", buildkit="samebits:cpu")
    assert chosen.name is None
    assert chosen.reason.startswith("starting samebits:cpu ")
    assert capsys.readouterr().err == "samebits: starting samebits:cpu as the builder samebits-cpu (once)\n"
    assert "samebits-cpu" not in _docker("buildx", "ls")
    assert "samebits-cpu" not in _docker("ps", "--all")


@pytest.mark.usefixtures("engine")
def test_the_builder_is_logged_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine()
    plan = plan_build(engine, small_kind(tmp_path), tag="samebits-test:recorded")
    with context_folder(plan) as context:
        image = build_from_context(engine, plan, context)
    try:
        chosen = choose_builder(engine, plan.base)
        capsys.readouterr()
        builder = known_metadata(image)["builder"]
        assert builder == chosen.describe()
        if "@" not in plan.base:
            assert (builder["driver"], builder["image"]) == ("docker", None)
        shown = call("show", "--image", plan.tag, folder=tmp_path)
        rows = [line.split(maxsplit=2) for line in shown.out.splitlines()]
        assert ["builder", "image", builder["image"] or "none"] in rows
    finally:
        engine.remove_image(plan.tag)


def test_a_limit() -> None:
    with pytest.raises(ToolError, match=r"^sleeping took longer than 0 s$"):
        run_tool(["sleep", "9"], what="sleeping", limit=0.2)


_BUILDKITD = """\
#!/bin/sh
mkdir -p /run/docker /etc/docker
echo '{"features": {"containerd-snapshotter": true}}' > /etc/docker/daemon.json
exec dockerd --data-root /var/lib/buildkit --insecure-registry 0.0.0.0/0 --host unix:///run/docker.sock
"""
_BUILDCTL = r"""#!/usr/bin/perl
use strict; use IO::Socket::UNIX; use IO::Select;
my $daemon = IO::Socket::UNIX->new(Peer => '/run/docker.sock') or die "no daemon: $!\n";
if ($ARGV[0] eq 'debug') { exit 0 }
syswrite $daemon, "POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
my $head = '';
while ($head !~ /\r\n\r\n\z/) { my $c; sysread($daemon, $c, 1) or die "closed: $head\n"; $head .= $c }
$head =~ m{^HTTP/1.1 101} or die $head;
my $both = IO::Select->new($daemon, \*STDIN);
while (1) {
  for my $from ($both->can_read) {
    my $n = sysread $from, my $block, 65536;
    if (!$n) { exit 0 if $from == $daemon; $both->remove($from); shutdown $daemon, 1; next }
    my $to = $from == $daemon ? \*STDOUT : $daemon;
    for (my $off = 0; $off < $n; $off += syswrite($to, $block, $n - $off, $off) || exit 1) { }
  }
}
"""


@pytest.fixture(scope="module")
def buildkit(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of BuildKit."""
    if Engine().can_pull(BUILDKIT, seconds=5) and "@" in default_base():
        yield BUILDKIT
        return
    root = Path(engine.removeprefix("unix://")).with_name("root")
    if not (root / "usr/sbin/dockerd").is_file():
        pytest.skip("no registry gives BuildKit, and the engine is not a private one that could stand in for it")
    tag, folder = "samebits-test:buildkit", tmp_path_factory.mktemp("buildkit")
    (folder / "usr" / "bin").mkdir(parents=True)
    (folder / "tmp").mkdir(mode=0o1777)
    for name, text in (("buildkitd", _BUILDKITD), ("buildctl", _BUILDCTL)):
        (folder / "usr" / "bin" / name).write_text(text)
        (folder / "usr" / "bin" / name).chmod(0o755)
    archive = folder / "root.tar"
    unwanted = [f"--exclude=./{name}" for name in ("oldroot", "state", "var", "usr/share", "tmp", "run", "proc", "sys")]
    parts: list[str | Path] = ["-C", folder, "./usr", "./tmp", "-C", root, *unwanted, "."]
    subprocess.run(["tar", "--one-file-system", "-cf", archive, *parts], check=True)
    path = "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    _docker("import", "--change", 'ENTRYPOINT ["buildkitd"]', "--change", path, archive, tag)
    yield tag
    _docker("rmi", tag)


@contextmanager
def _registry(image: Image, folder: Path) -> Iterator[str]:
    """A registry that has one image; yields the name by which a container pulls it, pinned by digest."""
    Engine().export([image], folder / "base.tar")
    with tarfile.open(folder / "base.tar") as archive:
        archive.extractall(folder, filter="data")
    (described,) = json.loads((folder / "index.json").read_bytes())["manifests"]

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            if self.connection.recv(1, socket.MSG_PEEK) == b"\x16":  # TLS, which is tried first
                self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                self.close_connection = True
            else:
                super().handle_one_request()

        def do_GET(self) -> None:
            digest = self.path.rpartition("/")[2]
            path = folder / "blobs" / "sha256" / digest.removeprefix("sha256:")
            content = b"" if self.path == "/v2/" else path.read_bytes() if path.is_file() else None
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Type", described["mediaType"])
            self.send_header("Docker-Content-Digest", digest)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None: ...

    gateway = json.loads(_docker("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]["Gateway"]
    with ThreadingHTTPServer((gateway, 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"{gateway}:{server.server_port}/base@{described['digest']}"
        server.shutdown()


def _build(plan: BuildPlan, builder: Builder, base: str, folder: Path) -> Image:
    """By this very builder, from nothing."""
    with context_folder(plan) as context:
        command = plan.command(
            builder=builder,
            base=base,
            context=context,
            wheelhouses={"wheelhouse": prepare_wheelhouse(context / "lock" / "requirements.lock")},
            metadata=folder / "metadata.json",
            cached=False,
        )
        run_tool(command, what="building")
    return require_image(Engine(), plan.tag)


@pytest.mark.slow
def test_a_builder_of_our_own(buildkit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine, name = Engine(), builder_name(buildkit)
    ours = plan_build(engine, small_kind(tmp_path), tag="samebits-test:own")
    theirs = plan_build(engine, small_kind(tmp_path), tag="samebits-test:engines")
    _docker("buildx", "rm", "--force", name, check=False)
    try:
        with _registry(require_image(engine, default_base()), tmp_path) as base:
            chosen = choose_builder(engine, base, buildkit=buildkit)
            assert chosen == Builder(name=name, reason=f"BuildKit pinned as {buildkit}")
            assert capsys.readouterr().err == f"samebits: starting {buildkit} as the builder {name} (once)\n"
            described = chosen.describe()
            assert (described["driver"], described["image"]) == ("docker-container", buildkit)
            one = _build(ours, chosen, base, tmp_path)
            other = _build(theirs, Builder(name=None, reason=""), default_base(), tmp_path)
            assert one.layers == other.layers
            assert compare(engine, one, other).identical
            capsys.readouterr()
        assert choose_builder(engine, base, buildkit=buildkit, offline=True) == chosen  # it has the base by now
        lost = choose_builder(engine, f"{base.partition('@')[0]}@{Digest.of_bytes(b'')}", buildkit=buildkit)
        assert lost.name is None
        assert lost.reason.startswith(f"finding {base.partition('@')[0]}@")
        assert capsys.readouterr().err == ""
    finally:
        _docker("buildx", "rm", "--force", name)
        _docker("rmi", ours.tag, theirs.tag, check=False)
