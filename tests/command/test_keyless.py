"""Runs signed by an identity: the real library signs and verifies with a Sigstore of our own, and refuses forgeries."""

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from samebits.core.run_dir import RunDir
from samebits.host.report.run_page import run_page
from support.command import ROOT, SCRIPTS, Project
from support.fake_runner import Played, played, spoil
from support.private_sigstore import PrivateSigstore

__all__ = ["played"]

pytestmark = pytest.mark.slow

_PYTHON = ROOT / ".venv-export" / "bin" / "python"
ADA = "ada@example.org"


@pytest.fixture(scope="module")
def tools() -> None:
    subprocess.run([ROOT / "tools" / "export.sh"], check=True, timeout=1200)


@pytest.fixture
def sigstore(tools: None) -> Iterator[PrivateSigstore]:
    assert tools is None
    with PrivateSigstore() as services:
        yield services


@dataclass
class Outcome:
    status: int
    out: str
    err: str


@dataclass
class Signed:
    """A run, and the commands of an environment with the library; no token is ever printed or left in a file."""

    run: RunDir
    played: Played
    sigstore: PrivateSigstore
    outside: Path

    @property
    def config(self) -> str:
        return str(self.sigstore.write_configuration(self.outside / "trust.json"))

    def call(self, *words: str, said: str = "", **variables: str) -> Outcome:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HOME": str(self.outside), **variables}
        done = subprocess.run(
            [_PYTHON, "-m", "samebits", *words],
            env=environment,
            input=said,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Outcome(done.returncode, done.stdout, done.stderr)

    def sign(self, run: RunDir | None = None, *words: str, token: str | None = None, **variables: str) -> Outcome:
        secret = self.sigstore.token() if token is None else token
        (self.outside / "token").write_text(secret + "\n")
        given = ("--identity-token", str(self.outside / "token")) if token is not None or not variables else ()
        done = self.call(
            *("sign", str((run or self.run).path), "--keyless", "--yes", "--trust-config", self.config),
            *(*given, *words),
            **variables,
        )
        printed = [done.out, done.err, *(path.read_text() for path in (run or self.run).path.glob("signed.*"))]
        parts = [part for part in (secret, secret.rpartition(".")[2]) if part]
        assert not any(part in text for part in parts for text in printed)
        return done

    def audit(
        self, run: RunDir | None = None, name: str = ADA, issuer: str | None = None, config: str | None = None
    ) -> Outcome:
        words = ("--require-signed-by", name, "--issuer", issuer or self.sigstore.url)
        return self.call("audit", str((run or self.run).path), *words, "--trust-config", config or self.config)

    def refused(self, run: RunDir | None = None, **others: str) -> str:
        done = self.audit(run, **others)
        assert (done.status, done.out) == (2, "")
        (line,) = done.err.splitlines()
        return line

    def bundle(self, kind: str = "provenance", run: RunDir | None = None) -> Path:
        (path,) = (run or self.run).path.glob(f"signed.{kind}.*.sigstore.json")
        return path


@pytest.fixture
def signed(played: Played, sigstore: PrivateSigstore, tmp_path_factory: pytest.TempPathFactory) -> Signed:
    found = Signed(played.train(), played, sigstore, tmp_path_factory.mktemp("outside"))
    done = found.sign()
    assert done.status == 0, done.err
    return found


def verified(signed: Signed) -> RunDir:
    """A run that verified the first one."""
    before = set(signed.played.project.runs.glob("2*"))
    assert signed.played.call("verify", str(signed.run.path)).status == 0
    (path,) = set(signed.played.project.runs.glob("2*")) - before
    return RunDir(path)


def test_accepted(signed: Signed) -> None:
    """Also in a capsule, by Sigstore's own command, and without any service."""
    again = verified(signed)
    done = signed.sign(again)
    assert [line.split()[0] for line in done.out.splitlines()] == ["signed", "signed", "identity", "issuer"]
    assert f"publishes their digests and the identity {ADA} (issuer {signed.sigstore.url})" in done.err
    page = run_page(signed.run).decode()
    assert f"holds signatures by the identities {ADA} (issuer {signed.sigstore.url})" in page
    assert signed.played.call("pack", str(signed.run.path), "-o", "a.tar").status == 0
    config, issuer = signed.config, signed.sigstore.url
    signed.sigstore.refuses = "/"
    for run in (signed.run, again):
        accepted = signed.audit(run)
        assert (accepted.status, f"is signed by {ADA} (issuer {issuer})" in accepted.err) == (0, True), accepted.err
    wanted = ("--require-signed-by", ADA, "--issuer", issuer, "--trust-config", config)
    unpacked = signed.call("unpack", "a.tar", "-o", str(signed.outside / "unpacked"))
    assert unpacked.status == 0, unpacked.err
    (run_path,) = (signed.outside / "unpacked").glob("**/record.json")
    done = signed.call("audit", str(run_path.parent), *wanted, "--json")
    assert done.status == 0, done.out
    # The capsule's run was not signed by this one: nothing of it is trained.
    done = signed.call("verify", "a.tar", "--require-signed-by", "eve", *wanted[2:])
    assert (done.status, f"signed by eve (issuer {issuer}); it is signed by {ADA}" in done.err) == (2, True)
    command = ("--trust-config", config, "verify", "identity", "--offline", "--cert-identity", ADA)
    words = (*command, "--cert-oidc-issuer", issuer, "--bundle", str(signed.bundle()), str(signed.run.record))
    other = subprocess.run([_PYTHON, "-m", "sigstore", *words], capture_output=True, text=True, timeout=60, check=False)
    assert other.returncode == 0, other.stderr


def test_what_is_given_to_whom(signed: Signed) -> None:
    """One certificate for a run; tokens of a variable and of stdin are taken; a CI's certificate names its workflow."""
    again = verified(signed)
    signed.sigstore.requests.clear()
    workflow = "https://example.org/project/train.yml@main"
    token = signed.sigstore.token("job:17", workflow=workflow)
    done = signed.sign(again, SIGSTORE_IDENTITY_TOKEN=token)
    assert f"identity {workflow}" in done.out
    assert signed.sigstore.requests == ["/api/v2/signingCert", "/api/v1/log/entries", "/api/v1/log/entries"]
    assert signed.audit(again, name=workflow).status == 0
    assert f"it is signed by {workflow}" in signed.refused(again)
    words = ("sign", str(again.path), "--keyless", "--yes", "--trust-config", signed.config, "--identity-token", "-")
    assert f"identity {ADA}" in signed.call(*words, said=signed.sigstore.token()).out
    assert signed.audit(again).status == 0


def test_nothing_is_published_unasked(played: Played, sigstore: PrivateSigstore, tmp_path: Path) -> None:
    one = Signed(played.train(), played, sigstore, tmp_path)
    words = ("sign", str(one.run.path), "--keyless", "--trust-config", one.config)
    done = one.call(*words, SIGSTORE_IDENTITY_TOKEN=sigstore.token())
    assert (done.status, "nothing was signed or published; add --yes" in done.err) == (2, True)
    done = one.call(*words, "--yes")
    assert (done.status, "there is no identity to sign by" in done.err) == (2, True)
    assert (sigstore.requests, list(one.run.path.glob("signed.*"))) == ([], [])


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("no token", "no identity token can be had: Identity token is malformed"),
        ("aGVs.bG8.d29ybGQ", "no identity token can be had: Identity token is malformed"),
        ("", "is empty"),
    ],
)
def test_bad_tokens(signed: Signed, token: str, said: str) -> None:
    done = signed.sign(token=token)
    assert (done.status, said in done.err) == (2, True), done.err


def test_services_that_refuse(signed: Signed) -> None:
    """One line, without the token, and no file but whole sets of them."""
    again = verified(signed)
    forged = signed.sigstore.token()[:-8] + "AAAAAAAA"
    done = signed.sign(again, token=forged)
    assert (done.status, "samebits: Sigstore did not sign: 400 Client Error" in done.err) == (2, True), done.err
    old = signed.sigstore.token(exp=1, iat=0)
    assert "no identity token can be had" in signed.sign(again, token=old).err
    for path in ("signingCert", "entries"):
        signed.sigstore.refuses = path
        done = signed.sign(again)
        assert (done.status, "Sigstore did not sign: " in done.err) == (2, True), done.err
    assert list(again.path.glob("signed.*")) == []
    config = json.loads(Path(signed.config).read_text())
    for service in config["signingConfig"]["rekorTlogUrls"]:
        service["url"] = "http://127.0.0.1:1"
    (signed.outside / "none.json").write_text(json.dumps(config))
    signed.sigstore.refuses = ""
    done = signed.sign(again, "--trust-config", str(signed.outside / "none.json"))
    assert (done.status, "Sigstore did not sign: " in done.err) == (2, True), done.err
    assert list(again.path.glob("signed.*")) == []


def test_bad_trust_configurations(signed: Signed) -> None:
    path = signed.outside / "bad.json"
    for text in ("", "{}", "[" * 100_000, "\0", json.dumps({**signed.sigstore.configuration(), "trustedRoot": {}})):
        path.write_text(text)
        assert f"{path} is no client trust configuration: " in signed.refused(config=str(path))
    empty = signed.sigstore.configuration()
    empty["trustedRoot"]["tlogs"] = []
    path.write_text(json.dumps(empty))
    assert "cannot verify: trusted root contains no transparency log" in signed.refused(config=str(path))
    assert "cannot read the trust configuration" in signed.refused(config=str(signed.outside / "nothing"))


def _change_payload(bundle: dict[str, Any]) -> None:
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"]).replace(b'"level":"bitwise"', b'"level":"metrics"')
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()


def _other(part: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(bundle: dict[str, Any], other: dict[str, Any]) -> None:
        bundle["verificationMaterial"][part] = other["verificationMaterial"][part]

    return change


def _drop_promise(bundle: dict[str, Any], _: dict[str, Any]) -> None:
    del bundle["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"]


def _later(bundle: dict[str, Any], _: dict[str, Any]) -> None:
    bundle["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = "1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda bundle, _: _change_payload(bundle), "DSSE: invalid signature"),
        (_other("tlogEntries"), "log entry payload hash does not match bundle"),
        (_other("certificate"), "DSSE: invalid signature"),
        (_drop_promise, "bundle must contain an inclusion promise"),
        (_later, "failed to build timestamp certificate chain"),
        (lambda bundle, _: bundle.clear(), "failed to load bundle"),
    ],
)
def test_a_forged_bundle(signed: Signed, change: Callable[[dict[str, Any], dict[str, Any]], None], said: str) -> None:
    """Made of parts that are right, each in its own bundle, by the same identity."""
    path = signed.bundle()
    other = RunDir(shutil.copytree(signed.run.path, signed.outside / "other"))
    assert signed.sign(verified(signed)).status == 0
    again = max(signed.played.project.runs.glob("2*"), key=lambda one: one.stat().st_mtime_ns)
    bundle, theirs = (json.loads(one.read_text()) for one in (path, signed.bundle(run=RunDir(again))))
    change(bundle, theirs)
    path.write_text(json.dumps(bundle))
    line = signed.refused()
    assert (f"{path.name} is not what {ADA} (issuer {signed.sigstore.url}) signed: " in line, said in line) == (
        True,
        True,
    )
    assert signed.audit(other).status == 0


def test_another_identity_or_issuer(signed: Signed) -> None:
    url = signed.sigstore.url
    assert f"no provenance is signed by eve (issuer {url}); it is signed by {ADA} (issuer {url})" in signed.refused(
        name="eve"
    )
    assert "no provenance is signed by" in signed.refused(issuer="https://accounts.example.org")
    # Her bundle in the place of his.
    path = signed.bundle()
    path.unlink()
    assert signed.sign(token=signed.sigstore.token("eve@example.org")).status == 0
    signed.bundle().rename(path)
    assert f"SANs do not match {ADA}" in signed.refused()
    path.unlink()
    assert signed.sign(token=signed.sigstore.token(issuer="https://other.example.org")).status == 0
    signed.bundle().rename(path)
    assert "OIDCIssuer does not match" in signed.refused()
    for words in (("--require-signed-by", ADA), ("--issuer", url), ("--trust-config", signed.config)):
        assert signed.call("audit", str(signed.run.path), *words).status == 2
    assert "must not be empty" in signed.refused(name="")


def test_another_sigstore(signed: Signed) -> None:
    """The same identity by the same issuer, with certificates and a log of other keys."""
    with PrivateSigstore() as other:
        mine, signed.sigstore = signed.sigstore, other
        path = signed.bundle()
        path.unlink()
        assert signed.sign(token=other.token(issuer=mine.url)).status == 0
        signed.bundle().rename(path) if signed.bundle() != path else None
        signed.sigstore = mine
        assert "failed to build timestamp certificate chain" in signed.refused()
    mine.log_key, right = other.log_key, mine.log_key
    assert signed.sign().status == 0
    mine.log_key = right
    assert "invalid log entry" in signed.refused()


def test_services_that_lie(signed: Signed) -> None:
    signed.sigstore.hides_certificates = True
    done = signed.sign()
    assert (done.status, "Sigstore did not sign: SCT verify failed" in done.err) == (2, True), done.err
    signed.sigstore.hides_certificates = False
    signed.sigstore.late = 3600
    assert signed.sign().status == 0
    assert "failed to build timestamp certificate chain" in signed.refused()


def test_what_keys_refuse_is_refused(signed: Signed) -> None:
    """A changed file, a statement on another run, a replayed verdict."""
    again, third = verified(signed), verified(signed)
    for run in (again, third):
        assert signed.sign(run).status == 0
    shutil.copy(signed.bundle("verdict", again), signed.bundle("verdict", third))
    assert "the signed verdict is on another run" in signed.refused(third)
    signed.bundle("verdict", third).unlink()
    assert "no verdict is signed by" in signed.refused(third)
    shutil.copy(signed.bundle(), signed.bundle(run=again))
    assert "the signed provenance is on another run: record.json, invocationId differ" in signed.refused(again)
    spoil(signed.run.code / "train.py", b"\n", b"\n\n")
    assert "code/train.py was changed; no signature covers that" in signed.refused()


_FLIPS = """
import io, json, random, sys
from contextlib import redirect_stderr
from pathlib import Path
from samebits.core.errors import RecordError
from samebits.core.run_dir import RunDir
from samebits.host.signing.keyless import IdentityCheck
from samebits.host.signing.sigstore_client import Identity
run, bundle, config, issuer = sys.argv[1:]
check, path = IdentityCheck(Identity("ada@example.org", issuer), Path(config)), Path(bundle)
whole, draw, accepted = path.read_bytes(), random.Random(1), []
for _ in range(300):
    content = bytearray(whole)
    at = draw.randrange(len(content) * 8)
    content[at // 8] ^= 1 << at % 8
    path.write_bytes(content)
    try:
        with redirect_stderr(io.StringIO()):
            check.require(RunDir(Path(run)))
        accepted.append(whole[at // 8 - 60 : at // 8 + 1].decode(errors="replace"))
    except RecordError:
        pass
print(json.dumps(accepted))
"""


def test_changed_bits(signed: Signed) -> None:
    """Of a bundle, each changed bit is refused, but in the log's name beside its signature."""
    words = (str(signed.run.path), str(signed.bundle()), signed.config, signed.sigstore.url)
    done = subprocess.run(
        [_PYTHON, "-c", _FLIPS, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    # Which of the known keys has signed is found by its digest.
    name = re.compile(r".*\\n\\n\N{EM DASH} \S*")
    assert [before for before in json.loads(done.stdout) if not name.fullmatch(before)] == []


def test_models_and_a_training(locked: None, sigstore: PrivateSigstore, tmp_path: Path) -> None:
    """A signed run is trained again. Its models have a signature that OpenSSF's command verifies."""
    assert locked is None
    shutil.copy(SCRIPTS / "fit.py", tmp_path / "train.py")
    (tmp_path / "data").mkdir()
    shutil.copy(SCRIPTS / "numbers.csv", tmp_path / "data" / "numbers.csv")
    run = Project(tmp_path).train().run
    config = str(sigstore.write_configuration(tmp_path / "trust.json"))
    (tmp_path / "token").write_text(sigstore.token())

    def call(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(
            [_PYTHON, "-m", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    keyless = ("--keyless", "--yes", "--identity-token", "token", "--trust-config", config)
    names = [
        line.rpartition("/")[2] for line in call("samebits", "sign", run.name, *keyless, "--model").splitlines()[:3]
    ]
    assert [name.split(".")[1] for name in names] == ["provenance", "sbom", "models"]
    wanted = ("--require-signed-by", ADA, "--issuer", sigstore.url, "--trust-config", config)
    assert "identical: 1 model" in call("samebits", "verify", run.name, *wanted)
    call(
        *("model_signing", "verify", "sigstore", str(run / "models"), "--signature", str(run / names[2])),
        *("--identity", ADA, "--identity_provider", sigstore.url, "--trust_config", config),
    )
