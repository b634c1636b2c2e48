"""Keys and certificates of the local cluster: a CA, the API server's certificate, a key for tokens."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFE = timedelta(days=3650)
SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


class Authority:
    """A CA: its certificate, and those that it issues.  *title* is its name, for people."""

    def __init__(self, title: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(title)
        self.certificate = (
            _builder(self._name, self._name, self._key, LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(SIGNS, critical=True)  # Python 3.13 and newer insist on it
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def issue(
        self, subject: str, names: Sequence[str] = (), ips: Sequence[str] = (), life: timedelta = LIFE
    ) -> tuple[bytes, bytes]:
        """A key and its certificate, as PEM; with a negative *life*, it has expired so long ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [
            *(x509.DNSName(name) for name in names),
            *(x509.IPAddress(ip_address(ip)) for ip in ips),
        ]
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = _builder(_name(subject), self._name, key, life).add_extension(identifier, critical=False)
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return (
            _pem(key, serialization.PrivateFormat.PKCS8),  # the only one that ZooKeeper reads
            certificate.public_bytes(serialization.Encoding.PEM),
        )

    @property
    def pem(self) -> bytes:
        """The CA's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def make_key(file: Path) -> None:
    """Make a private key and write it to *file*, in the only form that kube-apiserver takes for tokens."""
    key = ec.generate_private_key(ec.SECP256R1())
    _write(file, _pem(key, serialization.PrivateFormat.TraditionalOpenSSL))


def make_pki(directory: Path) -> None:
    """Make ``ca.crt``, and ``apiserver.crt`` with ``apiserver.key``, for loopback."""
    authority = Authority("the local cluster's CA")
    key, certificate = authority.issue("kube-apiserver", NAMES, ("127.0.0.1", "::1", "10.96.0.1"))
    _write(directory / "ca.crt", authority.pem)
    _write(directory / "apiserver.key", key)
    _write(directory / "apiserver.crt", certificate)


def _pem(key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1) + min(life, timedelta()))
        .not_valid_after(now + life)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _write(file: Path, content: bytes) -> None:
    file.touch(0o600)
    file.write_bytes(content)
