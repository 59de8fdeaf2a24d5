"""A Sigstore of our own on local HTTP: who issues tokens, a certificate authority, and a public log.

It does what the public services do, with keys of its own: tokens are signed and checked, certificates live for ten
minutes and carry the promise of a certificate log, and entries of the log have a signed time, a proof and a
signed checkpoint. The last attributes of `PrivateSigstore` make it misbehave.
"""

import base64
import hashlib
import json
import struct
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_ECDSA = ec.ECDSA(hashes.SHA256())
_SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_LIFE = timedelta(minutes=10)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(_der(key)).digest()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _compact(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _url64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _from_url64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _pae(envelope: dict[str, Any]) -> bytes:
    kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def new_request() -> dict[str, str]:
    """What a client asks the authority: to certify a new key."""
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(_new_key(), hashes.SHA256())
    return {"certificateSigningRequest": _text(request.public_bytes(Encoding.PEM))}


class RefusedError(Exception):
    """A request that a service does not accept."""


@dataclass
class PrivateSigstore:
    """Use as a context manager; `trust_config` is what clients are given."""

    log_key: ec.EllipticCurvePrivateKey = field(default_factory=_new_key)
    ct_key: ec.EllipticCurvePrivateKey = field(default_factory=_new_key)
    ca_key: ec.EllipticCurvePrivateKey = field(default_factory=_new_key)
    token_key: ec.EllipticCurvePrivateKey = field(default_factory=_new_key)
    entries: list[bytes] = field(default_factory=lambda: [b"%d" % number for number in range(5)])
    requests: list[str] = field(default_factory=list)
    late: int = 0
    """Seconds that the log's clock is ahead of the authority's."""
    hides_certificates: bool = False
    """The certificate log's promise is signed by a key that nobody knows."""
    refuses: str = ""
    """Part of a path that answers an error."""

    def __enter__(self) -> Self:
        self._ca = self._root()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def token(self, name: str = "ada@example.org", issuer: str | None = None, **claims: object) -> str:
        """An identity token, as a CI's service or a browser gets one."""
        now = int(time.time())
        values = {"iss": issuer or self.url, "sub": name, "aud": "sigstore", "iat": now, "exp": now + 600, **claims}
        signed = _url64(_compact({"alg": "ES256", "typ": "JWT"})) + "." + _url64(_compact(values))
        one, other = decode_dss_signature(self.token_key.sign(signed.encode(), _ECDSA))
        return f"{signed}.{_url64(one.to_bytes(32) + other.to_bytes(32))}"

    def _claims(self, token: str) -> dict[str, Any]:
        signed, _, signature = token.rpartition(".")
        raw = _from_url64(signature)
        pair = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
        self.token_key.public_key().verify(pair, signed.encode(), _ECDSA)
        claims: dict[str, Any] = json.loads(_from_url64(signed.partition(".")[2]))
        if claims["exp"] < time.time():
            raise RefusedError("the token is too old")
        return claims

    # The certificate authority.

    def _root(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "private root")])
        public, now = self.ca_key.public_key(), datetime.now(UTC)
        return (
            x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self.ca_key, hashes.SHA256())
        )

    def certificates(self, token: str, body: dict[str, Any]) -> dict[str, Any]:
        """What the authority answers: a certificate that binds a key to the identity in a token, and its own."""
        claims = self._claims(token)
        request = x509.load_pem_x509_csr(base64.b64decode(body["certificateSigningRequest"]))
        if not request.is_signature_valid:
            raise RefusedError("the request is not signed by its key")
        builder = self._leaf(request, claims)
        draft = builder.sign(self.ca_key, hashes.SHA256())
        promised = builder.add_extension(
            x509.UnrecognizedExtension(_SCT_LIST, self._promise(draft.tbs_certificate_bytes)), critical=False
        ).sign(self.ca_key, hashes.SHA256())
        chain = [one.public_bytes(Encoding.PEM).decode() for one in (promised, self._ca)]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}

    def _leaf(self, request: x509.CertificateSigningRequest, claims: dict[str, Any]) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        name: str = claims.get("workflow", claims["sub"])
        subject = x509.RFC822Name(name) if "@" in name else x509.UniformResourceIdentifier(name)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca_key.public_key())
        return (
            x509.CertificateBuilder(
                issuer_name=self._ca.subject, subject_name=x509.Name([]), public_key=request.public_key()
            )
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=5))
            .not_valid_after(now + _LIFE)
            .add_extension(x509.SubjectAlternativeName([subject]), critical=True)
            .add_extension(_usage(sign=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(authority, critical=False)
            .add_extension(x509.UnrecognizedExtension(_ISSUER, claims["iss"].encode()), critical=False)
        )

    def _promise(self, draft: bytes) -> bytes:
        """The extension by which a log promises to publish a certificate (RFC 6962): a list of one, in DER."""
        when = int(time.time() * 1000)
        entry = _id(self.ca_key) + len(draft).to_bytes(3) + draft
        signed = struct.pack("!BBQH", 0, 0, when, 1) + entry + struct.pack("!H", 0)
        key = _new_key() if self.hides_certificates else self.ct_key
        signature = key.sign(signed, _ECDSA)
        one = struct.pack("!B32sQHBBH", 0, _id(self.ct_key), when, 0, 4, 3, len(signature)) + signature
        content = struct.pack("!HH", len(one) + 2, len(one)) + one
        length = [len(content)] if len(content) < 128 else [0x81, len(content)]
        return bytes([0x04, *length]) + content

    # The log.

    def add_entry(self, proposed: dict[str, Any]) -> dict[str, Any]:
        """Publish an envelope that its certificate's key has signed: digests, signature and certificate."""
        content = proposed["spec"]["proposedContent"]
        (verifier,) = content["verifiers"]
        envelope = json.loads(content["envelope"])
        (signature,) = envelope["signatures"]
        key: Any = x509.load_pem_x509_certificate(base64.b64decode(verifier)).public_key()
        key.verify(base64.b64decode(signature["sig"]), _pae(envelope), _ECDSA)
        spec = {
            "envelopeHash": _digest(content["envelope"].encode()),
            "payloadHash": _digest(base64.b64decode(envelope["payload"])),
            "signatures": [{"signature": signature["sig"], "verifier": verifier}],
        }
        self.entries.append(_compact({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}))
        return self._entry(len(self.entries) - 1)

    def _entry(self, index: int) -> dict[str, Any]:
        promised = {
            "body": _text(self.entries[index]),
            "integratedTime": int(time.time()) + self.late,
            "logID": _id(self.log_key).hex(),
            "logIndex": index,
        }
        size, root = len(self.entries), _root_hash(self.entries)
        note = f"{self.url}\n{size}\n{_text(root)}\n"
        mark = _text(_id(self.log_key)[:4] + self.log_key.sign(note.encode(), _ECDSA))
        proof = {
            "checkpoint": f"{note}\n\N{EM DASH} {self.url} {mark}\n",
            "hashes": [one.hex() for one in _path(index, self.entries)],
            "logIndex": index,
            "rootHash": root.hex(),
            "treeSize": size,
        }
        signed = _text(self.log_key.sign(_compact(promised), _ECDSA))
        return {"0" * 64: {**promised, "verification": {"inclusionProof": proof, "signedEntryTimestamp": signed}}}

    # What clients are given.

    def configuration(self) -> dict[str, Any]:
        """The client trust configuration: keys and services."""
        always = {"start": "2020-01-01T00:00:00Z"}
        service = [{"url": self.url, "majorApiVersion": 1, "validFor": always, "operator": "tests"}]
        authority = {
            "subject": {"organization": "tests", "commonName": "private root"},
            "uri": self.url,
            "certChain": {"certificates": [{"rawBytes": _text(self._ca.public_bytes(Encoding.DER))}]},
            "validFor": always,
        }
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [self._instance(self.log_key, always)],
                "ctlogs": [self._instance(self.ct_key, always)],
                "certificateAuthorities": [authority],
            },
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": service,
                "oidcUrls": service,
                "rekorTlogUrls": service,
                "rekorTlogConfig": {"selector": "ANY"},
                "tsaConfig": {"selector": "ANY"},
            },
        }

    def _instance(self, key: ec.EllipticCurvePrivateKey, always: dict[str, str]) -> dict[str, Any]:
        public = {"rawBytes": _text(_der(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": always}
        return {
            "baseUrl": self.url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": public,
            "logId": {"keyId": _text(_id(key))},
        }

    def write_configuration(self, path: Path) -> Path:
        """The configuration as a file."""
        path.write_text(json.dumps(self.configuration()))
        return path

    def answer(self, path: str, token: str, body: dict[str, Any]) -> dict[str, Any]:
        """What a service answers; raises RefusedError, InvalidSignature or ValueError."""
        self.requests.append(path)
        if self.refuses and self.refuses in path:
            raise RefusedError(f"refused: {token}")
        if path == "/.well-known/openid-configuration":
            return {"authorization_endpoint": f"{self.url}/auth", "token_endpoint": f"{self.url}/token"}
        if path == "/api/v2/signingCert":
            return self.certificates(token.removeprefix("Bearer "), body)
        if path == "/api/v1/log/entries":
            return self.add_entry(body)
        raise RefusedError(f"nothing is at {path}")


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        key_cert_sign=not sign,
        crl_sign=not sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _digest(content: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(content).hexdigest()}


def _root_hash(entries: list[bytes]) -> bytes:
    """The head of a Merkle tree (RFC 6962)."""
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    split = _split(len(entries))
    return hashlib.sha256(b"\1" + _root_hash(entries[:split]) + _root_hash(entries[split:])).digest()


def _path(index: int, entries: list[bytes]) -> list[bytes]:
    """The hashes that lead from an entry to the head."""
    if len(entries) == 1:
        return []
    split = _split(len(entries))
    if index < split:
        return [*_path(index, entries[:split]), _root_hash(entries[split:])]
    return [*_path(index - split, entries[split:]), _root_hash(entries[:split])]


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _handler(sigstore: PrivateSigstore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body: dict[str, Any]) -> None:
            try:
                status, value = 200, sigstore.answer(self.path, self.headers.get("Authorization", ""), body)
            except (RefusedError, InvalidSignature, ValueError) as error:
                status, value = 400, {"code": 400, "message": str(error)}
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    return Handler
