"""How a fetch reaches the network: the caller's proxies and certificate authorities."""

import os
import shutil
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

SCRATCH = ".samebits"
"""A folder in the home folder of a fetch: its report, temporary files, and the certificates."""

REPORT = "downloads.json"
_PROXIES = ("all_proxy", "http_proxy", "https_proxy")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """`variables` for the script's process; `mode` is the network of its container."""

    variables: dict[str, str]
    mode: str = "bridge"

    @classmethod
    def of(cls, caller: Mapping[str, str], home: Path, inside: str) -> "Network":
        """The network of a fetch whose home folder is `home`, which the process sees as `inside`."""
        scratch = home / SCRATCH
        scratch.mkdir(exist_ok=True)
        names = {name for name in caller if name.lower() in (*_PROXIES, "no_proxy") and caller[name]}
        variables = {name: caller[name] for name in names} | {"SAMEBITS_FETCH": f"{inside}/{SCRATCH}/{REPORT}"}
        # Hugging Face's other protocol is compiled code, which shows no URL.
        variables["HF_HUB_DISABLE_XET"] = "1"
        # A company's own authority is known to this machine, and not to the image.
        if bundle := _certificates(caller):
            shutil.copyfile(bundle, scratch / "certificates.pem")
            path = f"{inside}/{SCRATCH}/certificates.pem"
            variables |= {"SSL_CERT_FILE": path, "REQUESTS_CA_BUNDLE": path}
        proxies = {urlsplit(caller[name]).hostname for name in names if name.lower() in _PROXIES}
        # Inside a bridge, the loopback interface is another one.
        return cls(variables=variables, mode="host" if proxies & set(_LOOPBACK) else "bridge")


def _certificates(caller: Mapping[str, str]) -> str | None:
    """The file with the authorities that this machine trusts, if there is one."""
    known = (caller.get("SSL_CERT_FILE"), caller.get("REQUESTS_CA_BUNDLE"), ssl.get_default_verify_paths().cafile)
    return next((path for path in known if path and os.path.isfile(path)), None)
