"""Signed statements: they verify by other libraries, and every forgery is refused by name."""

import base64
import importlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from samebits.core.digest import Digest, with_checksum
from samebits.core.jsonio import canonical_json, readable_json
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.host.report.run_page import run_page
from samebits.host.signing.keyless import claimed_identities
from samebits.host.signing.keys import read_public_key, read_signer
from samebits.host.signing.signatures import PAYLOAD_TYPE, _also
from samebits.host.signing.sigstore_client import Identity
from samebits.host.signing.statements import materials
from support.fake_runner import Played, played
from support.private_sigstore import PrivateSigstore, new_request

__all__ = ["played"]


@dataclass
class Signed:
    """A run with a signature, and its verification with another one."""

    run: RunDir
    again: RunDir
    played: Played

    def refused(self, run: RunDir | None = None, key: str = "samebits.key.pub") -> str:
        """Why a run is not taken; nothing of it was trained."""
        trained = len(self.played.player.trained)
        done = self.played.call("verify", str((run or self.run).path), "--require-signed", key)
        assert (done.status, len(self.played.player.trained)) == (2, trained)
        return done.complaint


_TEMPLATE: dict[str, Path] = {}


@pytest.fixture
def fresh(played: Played, tmp_path_factory: pytest.TempPathFactory) -> Signed:
    run = played.train()
    assert played.call("key", "new", "-o", "samebits.key").status == 0
    assert played.call("verify", run.path.name).status == 0
    again = RunDir(max(played.project.runs.glob("2*"), key=lambda path: path.stat().st_mtime_ns))
    for one in (run, again):
        done = played.call("sign", str(one.path), "--key", "samebits.key")
        assert done.status == 0, done.err
    kept = tmp_path_factory.mktemp("signed")
    shutil.copytree(played.project.folder, kept / "project")
    _TEMPLATE.update(project=kept / "project", run=Path(run.path.name), again=Path(again.path.name))
    return Signed(run, again, played)


@pytest.fixture
def signed(played: Played, request: pytest.FixtureRequest) -> Signed:
    """A copy of what is trained and signed once."""
    if not _TEMPLATE:
        return cast("Signed", request.getfixturevalue("fresh"))
    shutil.copytree(_TEMPLATE["project"], played.project.folder, dirs_exist_ok=True)
    run, again = (RunDir(Path("runs") / _TEMPLATE[name]) for name in ("run", "again"))
    return Signed(run, again, played)


def statements(run: RunDir) -> dict[str, dict[str, Any]]:
    """The payloads by kind, after their signatures were verified by nothing of ours."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key: Any = load_pem_public_key(Path("samebits.key.pub").read_bytes())
    found = {}
    for path in run.path.glob("signed.*.json"):
        envelope = json.loads(path.read_text())
        payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
        text = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
        key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), text)
        found[path.name.split(".")[1]] = json.loads(payload)
    return found


def test_accepted(fresh: Signed) -> None:
    call = fresh.played.call
    done = call("verify", str(fresh.run.path), "--require-signed", "samebits.key.pub")
    keyid = read_public_key(Path("samebits.key.pub")).keyid
    assert (done.status, f"is signed by {keyid}" in done.err) == (0, True)
    assert f"holds signatures by the keys {keyid}," in run_page(fresh.run).decode()
    assert call("audit", str(fresh.again.path), "--require-signed", "samebits.key.pub").status == 0
    assert call("pack", fresh.run.path.name, "-o", "a.tar", "--without", "checkpoints").status == 0
    assert call("verify", "a.tar", "--require-signed", "samebits.key.pub").status == 0
    assert Path("samebits.key").stat().st_mode & 0o777 == 0o600


def test_the_image_of_an_unsigned_capsule_is_not_loaded(signed: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []
    monkeypatch.setattr("samebits.host.capsule.software.provide_software", loaded.append)
    for path in signed.run.path.glob("signed.*.json"):
        path.unlink()
    words = ("pack", signed.run.path.name, "-o", "a.tar", "--without", "checkpoints", "--data", "data")
    assert signed.played.call(*words).status == 0
    done = signed.played.call("verify", "a.tar", "--require-signed", "samebits.key.pub")
    assert (done.status, loaded) == (2, [])


def test_the_libraries_of_in_toto_read_them(signed: Signed) -> None:
    from google.protobuf import json_format
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as Message

    predicates = {"provenance": ("provenance", "Provenance"), "verdict": ("vsa", "VerificationSummary")}
    found = statements(signed.again)
    assert found.keys() == predicates.keys()
    for kind, (package, name) in predicates.items():
        Statement.copy_from_pb(json_format.ParseDict(found[kind], Message())).validate()
        module = importlib.import_module(f"in_toto_attestation.predicates.{package}.v1.{package}_pb2")
        # The schema has one level where SLSA's text has a list. Fields that it does not know are allowed.
        predicate = {key: value for key, value in found[kind]["predicate"].items() if key != "verifiedLevels"}
        parsed = json_format.ParseDict(predicate, getattr(module, name)(), ignore_unknown_fields=True)
        assert parsed.ByteSize() > 0
    verdict = found["verdict"]["predicate"]
    assert (verdict["verificationResult"], verdict["verifiedLevels"]) == ("PASSED", ["SAMEBITS_BITWISE_IDENTICAL"])
    record = signed.again.read()
    subjects = {item["name"]: item["digest"]["sha256"] for item in found["provenance"]["subject"]}
    assert subjects["record.json"] == Digest.of_file(signed.again.record).hex
    assert record.result_digest is not None
    assert subjects["result"] == record.result_digest.hex
    parameters = found["provenance"]["predicate"]["buildDefinition"]["externalParameters"]
    assert parameters["recipe"] == record.recipe.to_dict()


def _forge(run: RunDir) -> None:
    """Another result, with every digest and checksum of the folder made right again: a consistent forgery."""
    values = json.loads(run.record.read_text())
    values["result"]["fits"][0]["history"]["loss"][-1] = "0x0.0p+0"
    values["result_digest"] = str(Digest.of_json(values["result"]))
    run.record.unlink()
    run.record.write_bytes(readable_json(with_checksum({k: v for k, v in values.items() if k != "seal"})))


def _change_signature(run: RunDir) -> None:
    (path,) = run.path.glob("signed.provenance.*.json")
    envelope = json.loads(path.read_text())
    payload = base64.b64decode(envelope["payload"]).replace(b'"level":"bitwise"', b'"level":"metrics"')
    path.write_text(json.dumps(envelope | {"payload": base64.b64encode(payload).decode()}))


def _append(path: str) -> Callable[[RunDir], None]:
    def change(run: RunDir) -> None:
        (run.path / path).chmod(0o644)
        with (run.path / path).open("ab") as file:
            file.write(b"\n")

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_append("code/train.py"), "code/train.py was changed; no signature covers that"),
        (_append("data.jsonl"), "data.jsonl was changed"),
        (_append("record.json"), "record.json holds the same values in other bytes than samebits writes"),
        (_append("files.jsonl"), "files.jsonl was changed"),
        (lambda run: (run.outputs / "more").write_text("x"), "outputs/more was added"),
        (_forge, "record"),
        (_change_signature, "was changed after it was signed"),
        (lambda run: [path.write_text("{") for path in run.path.glob("signed.*")], "is no signed statement; remove it"),
        (lambda run: [path.unlink() for path in run.path.glob("signed.*")], "no provenance is signed by the key"),
    ],
)
def test_changed_after_it_was_signed(signed: Signed, change: Callable[[RunDir], Any], said: str) -> None:
    change(signed.run)
    assert said in signed.refused()


def test_an_unknown_key(signed: Signed) -> None:
    signed.played.call("key", "new", "-o", "other")
    said = signed.refused(key="other.pub")
    assert "no provenance is signed by the key" in said
    assert "; it is signed by " in said
    assert "no public Ed25519 or ECDSA key" in signed.refused(key="samebits.key")
    assert "cannot read the key" in signed.refused(key="nothing")


def test_a_statement_on_another_run(fresh: Signed) -> None:
    other = fresh.played.train("--exclude", "samebits.key*")
    for path in fresh.run.path.glob("signed.*"):
        shutil.copy(path, other.path)
    assert "the signed provenance is on another run: record.json, invocationId differ" in fresh.refused(other)


def test_a_replayed_verdict(fresh: Signed) -> None:
    """The verdict on one run is none on another, however often that was verified."""
    fresh.played.call("verify", fresh.run.path.name)
    third = RunDir(max(fresh.played.project.runs.glob("2*"), key=lambda path: path.stat().st_mtime_ns))
    fresh.played.call("sign", str(third.path), "--key", "samebits.key")
    for path in fresh.again.path.glob("signed.verdict.*"):
        shutil.copy(path, third.path)
    assert "the signed verdict is on another run" in fresh.refused(third)
    third.verification.unlink()
    shutil.copy(fresh.again.verification, third.verification)
    assert "is a verdict on other runs" in fresh.refused(third)


def test_an_unsigned_verdict(signed: Signed) -> None:
    for path in signed.again.path.glob("signed.verdict.*"):
        path.unlink()
    assert "no verdict is signed by the key" in signed.refused(signed.again)


def test_what_cannot_be_signed(signed: Signed) -> None:
    call = signed.played.call
    assert "is no private Ed25519 or ECDSA key" in call("sign", "last", "--key", "samebits.key.pub").complaint
    assert "exists already; a key is never replaced" in call("key", "new", "-o", "samebits.key").complaint
    assert "takes new, not 'old'" in call("key", "old").complaint
    _append("code/train.py")(signed.run)
    assert "code/train.py was changed" in call("sign", str(signed.run.path), "--key", "samebits.key").complaint


def test_a_key_is_made_beside_the_users_configuration(
    played: Played, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Not in the project, where it would be part of the code."""
    config = tmp_path_factory.mktemp("config")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config / "new"))
    before = sorted(Path().rglob("*"))
    key = config / "new" / "samebits" / "samebits.key"
    assert played.call("key", "new").out.splitlines()[:2] == [f"private {key}", f"public {key}.pub"]
    assert key.stat().st_mode & 0o777 == 0o600
    assert sorted(Path().rglob("*")) == before
    assert "exists already; a key is never replaced" in played.call("key", "new").complaint


def test_an_ecdsa_key(signed: Signed) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = ec.generate_private_key(ec.SECP256R1())
    Path("ec").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    Path("ec.pub").write_bytes(public)
    call = signed.played.call
    assert call("sign", str(signed.run.path), "--key", "ec").status == 0
    assert call("audit", str(signed.run.path), "--require-signed", "ec.pub").status == 0


def test_a_bill_of_materials(signed: Signed, example: Record) -> None:
    """It need not be there; one that is must be of this very run."""
    run, record = signed.run, signed.run.read()
    system = with_system(record, example)
    assert _also(record) == []
    assert _also(system) == ["sbom"]
    from securesystemslib.dsse import Envelope

    statement = materials(run, system)
    names = {item["name"] for item in statement["predicate"]["components"]}
    assert {"tensorflow-cpu", "keras", "numpy"} <= names
    signer = read_signer(Path("samebits.key"))
    other = materials(signed.again, with_system(signed.again.read(), example))
    for value, accepted in ((statement, True), (other, False)):
        envelope = Envelope(payload=canonical_json(value), payload_type=PAYLOAD_TYPE, signatures={})
        envelope.sign(signer)
        path = run.path / f"signed.sbom.{signer.public_key.keyid[:8]}.json"
        path.write_bytes(readable_json(envelope.to_dict()))
        done = signed.played.call("audit", str(run.path), "--require-signed", "samebits.key.pub")
        assert (done.status == 0) is accepted, done.err
    assert "the signed sbom is on another run: record.json differ" in done.complaint


def with_system(record: Record, observed: Record) -> Record:
    """The record with the packages that another one observed."""
    return replace(record, environment=replace(record.environment, system=observed.environment.system))


def test_models_need_an_ecdsa_key(signed: Signed) -> None:
    done = signed.played.call("sign", str(signed.run.path), "--key", "samebits.key", "--model")
    assert (done.status, "use `samebits key new --ecdsa -o FILE`" in done.complaint) == (2, True)
    assert signed.played.call("key", "new", "--ecdsa", "-o", "ec.key").status == 0
    done = signed.played.call("sign", str(signed.run.path), "--key", "ec.key", "--model")
    assert (done.status, "has no models to sign" in done.complaint) == (2, True)
    assert signed.played.call("sign", str(signed.run.path), "--key", "ec.key").status == 0
    assert signed.played.call("audit", str(signed.run.path), "--require-signed", "ec.key.pub").status == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sign", "last"), "one of the arguments --key --keyless is required"),
        (("sign", "last", "--keyless", "--key", "samebits.key"), "not allowed with argument"),
        (("sign", "last", "--key", "samebits.key", "--yes"), "--yes is for a signature by an identity; use --keyless"),
        (("sign", "last", "--key", "samebits.key", "--trust-config", "x"), "--trust-config is for a signature by an"),
        (("audit", "last", "--require-signed-by", "ada@example.org"), "belong together; add the other one"),
        (("verify", "last", "--issuer", "https://example.org"), "belong together; add the other one"),
        (("verify", "last", "--trust-config", "x"), "--trust-config is for signatures by an identity; add"),
        (("audit", "last", "--require-signed-by", "", "--issuer", "x"), "must not be empty"),
        (("audit", "last", "--require-signed-by", "x", "--issuer", ""), "must not be empty"),
    ],
)
def test_options_that_do_not_fit(signed: Signed, words: tuple[str, ...], said: str) -> None:
    done = signed.played.call(*words)
    assert (done.status, said in done.complaint) == (2, True), done.err


@pytest.mark.parametrize(
    "words",
    [("sign", "last", "--keyless"), ("audit", "last", "--require-signed-by", "ada@example.org", "--issuer", "x")],
)
def test_without_the_library(signed: Signed, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.setitem(sys.modules, "sigstore", None)
    done = signed.played.call(*words)
    assert (done.status, "install it with `pip install 'samebits[sign]'`" in done.complaint) == (2, True), done.err


def test_identities_that_a_folder_names(signed: Signed) -> None:
    """Read without the library. What is no bundle names nobody, and signatures by keys stay."""
    run = signed.run
    names = ["provenance", "sbom", "verdict"]
    contents = [
        b"{",
        b'{"verificationMaterial": {"certificate": {"rawBytes": "AA=="}}}',
        b'{"verificationMaterial": []}',
    ]
    for name, content in zip(names, contents, strict=True):
        (run.path / f"signed.{name}.01234567.sigstore.json").write_bytes(content)
    assert claimed_identities(run) == set()
    with PrivateSigstore() as sigstore:
        csr = new_request()
        answer = sigstore.certificates(sigstore.token("job", workflow="https://example.org/a.yml@main"), csr)
        pem = answer["signedCertificateEmbeddedSct"]["chain"]["certificates"][0]
    encoded = "".join(pem.splitlines()[1:-1])
    bundle = {"verificationMaterial": {"certificate": {"rawBytes": encoded}}}
    (run.path / "signed.sbom.01234567.sigstore.json").write_text(json.dumps(bundle))
    assert claimed_identities(run) == {Identity("https://example.org/a.yml@main", sigstore.url)}
    assert "keys" in (page := run_page(run).decode())
    assert "and the identities https://example.org/a.yml@main" in page
    assert signed.played.call("audit", str(run.path), "--require-signed", "samebits.key.pub").status == 0
