"""What ZooKeeper's flags and the files they name say, and what is wrong with them."""

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from kazoo.security import ACL, OPEN_ACL_UNSAFE, Id, Permissions

from hack.local.pki import Authority
from rpcregistry.cli import run_command
from rpcregistry.errors import Misconfigured
from rpcregistry.zookeeper.access import OPEN, Access, Handler, Secrets, acl, load
from rpcregistry.zookeeper.reconnect import Attempts

ALL = Permissions.ALL
READ = Permissions.READ
PASSWORD = "s3cret-of-the-registry"


@pytest.fixture
def user(tmp_path: Path) -> Path:
    file = tmp_path / "user"
    file.write_text(f"rpcregistry:{PASSWORD}\n")
    return file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("world:anyone:cdrwa", [ACL(ALL, Id("world", "anyone"))], id="everybody"),
        pytest.param(
            "auth::cdrwa,world:anyone:r",
            [ACL(ALL, Id("auth", "")), ACL(READ, Id("world", "anyone"))],
            id="us, and readers",
        ),
        pytest.param("digest:a:aGFzaA==:rwcd", [ACL(15, Id("digest", "a:aGFzaA=="))], id="a digest"),
        pytest.param(
            "x509:CN=a,OU=b:cdrw, sasl:c:r",
            [ACL(15, Id("x509", "CN=a,OU=b")), ACL(READ, Id("sasl", "c"))],
            id="a name with commas",
        ),
        pytest.param("ip:10.0.0.0/8:cdrw", [ACL(15, Id("ip", "10.0.0.0/8"))], id="a network"),
        pytest.param("ip:fd00::1:cdrw", [ACL(15, Id("ip", "fd00::1"))], id="an IPv6 address"),
    ],
)
def test_an_acl_is_written_as_zookeepers_command_line_has_it(text: str, expected: list[ACL]):
    assert list(acl(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("creator", id="a word"),
        pytest.param("world:anyone", id="no permissions"),
        pytest.param("world:all:cdrwa", id="a world of others"),
        pytest.param("auth:me:cdrwa", id="auth with a name"),
        pytest.param("digest:user:cdrwa", id="a digest without a hash"),
        pytest.param("sasl::cdrwa", id="sasl without a name"),
        pytest.param("kerberos:a:cdrwa", id="a scheme that there is not"),
        pytest.param("world:anyone:rwx", id="a permission that there is not"),
        pytest.param("auth::cdrwa,,world:anyone:r", id="an empty entry"),
        pytest.param("auth::r,world:anyone:r", id="nobody may write"),
        pytest.param("world:anyone:crwa", id="nobody may delete"),
    ],
)
def test_what_is_no_acl_is_refused(text: str):
    with pytest.raises(ValueError, match=r"write|lets nobody"):
        acl(text)


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param({"tls_cert": "c"}, id="a certificate without TLS"),
        pytest.param({"tls_ca": "c", "tls_key": "k"}, id="a key without a certificate"),
        pytest.param({"acl": acl("auth::cdrwa")}, id="an ACL of ours, and we are nobody"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(flags: dict[str, Any]):
    with pytest.raises(ValueError, match="--zk-"):
        Access(**flags)


def test_without_flags_a_client_gets_no_options():
    credentials = load(OPEN)
    assert (credentials.options, credentials.tls) == ({}, None)


def test_with_credentials_others_may_read_by_default(user: Path):
    options = load(Access(auth_file=str(user))).options
    assert options["auth_data"] == [("digest", f"rpcregistry:{PASSWORD}")]
    assert options["default_acl"] == acl("auth::cdrwa,world:anyone:r")


def test_an_acl_that_is_given_is_the_one(user: Path):
    assert load(Access(auth_file=str(user), acl=acl("auth::cdrwa"))).options["default_acl"] == acl(
        "auth::cdrwa"
    )
    assert load(Access(acl=tuple(OPEN_ACL_UNSAFE))).options == {"default_acl": tuple(OPEN_ACL_UNSAFE)}


@pytest.mark.parametrize(
    ("content", "user", "password"),
    [
        pytest.param(b"a:b", "a", "b", id="without an end of line"),
        pytest.param(b"a:b\r\n", "a", "b", id="with Windows' end of line"),
        pytest.param(b"a:b:c d", "a", "b:c d", id="a password with colons and spaces"),
        pytest.param("a:pässwörd".encode(), "a", "pässwörd", id="a password with umlauts"),
    ],
)
def test_credentials_are_one_line(tmp_path: Path, content: bytes, user: str, password: str):
    file = tmp_path / "user"
    file.write_bytes(content)
    assert load(Access(auth_file=str(file))).options["auth_data"] == [("digest", f"{user}:{password}")]


def test_sasl_takes_the_same_credentials_if_they_are_ascii(user: Path):
    access = Access(auth_file=str(user), auth_scheme="sasl")
    options = load(access).options["sasl_options"]
    assert options == {"mechanism": "DIGEST-MD5", "username": "rpcregistry", "password": PASSWORD}
    user.write_text("rpcregistry:pässwörd")
    with pytest.raises(Misconfigured, match="ASCII"):
        load(access)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="no file"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"s3cret", id="no colon"),
        pytest.param(b":s3cret", id="no user"),
        pytest.param(b"user:", id="no password"),
        pytest.param(b"user:s3cret\nother:s3cret", id="two lines"),
        pytest.param(b"user:s3cret\xff", id="no UTF-8"),
        pytest.param(b"user:s3cret\0", id="a NUL"),
    ],
)
def test_what_holds_no_credentials_is_named_and_not_shown(
    tmp_path: Path, content: bytes | None, capfd: pytest.CaptureFixture[str]
):
    file = tmp_path / "user"
    if content is not None:
        file.write_bytes(content)
    assert run_command(["verify", "--zk-auth-file", str(file)]) == 2
    said = capfd.readouterr().err
    assert str(file) in said
    assert said.count("\n") == 1
    assert "s3cret" not in said


# TLS


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("a CA")


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> dict[str, Path]:
    key, certificate = authority.issue("rpcregistry")
    contents = {"ca": authority.pem, "cert": certificate, "key": key}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


def tls_access(files: dict[str, Path]) -> Access:
    return Access(**{f"tls_{name}": str(file) for name, file in files.items()})


def test_the_ca_that_is_given_is_the_only_one(files: dict[str, Path]):
    context = load(tls_access({"ca": files["ca"]})).tls
    assert context
    (ca,) = context.get_ca_certs()
    assert ca["subject"] == ((("commonName", "a CA"),),)
    assert context.check_hostname


def test_a_key_may_lie_in_the_certificates_file(files: dict[str, Path]):
    files["cert"].write_bytes(files["cert"].read_bytes() + files.pop("key").read_bytes())
    assert load(tls_access(files)).options["default_acl"] == acl("auth::cdrwa,world:anyone:r")


@pytest.mark.parametrize(
    ("spoilt", "content"),
    [
        pytest.param("ca", None, id="no CA"),
        pytest.param("ca", b"", id="an empty CA"),
        pytest.param("cert", None, id="no certificate"),
        pytest.param("cert", b"-----BEGIN CERTIFICATE-----\nMIIB", id="half a certificate"),
        pytest.param("key", None, id="no key"),
        pytest.param("key", b"-----BEGIN", id="half a key"),
        pytest.param("key", Authority("another").issue("another")[0], id="another's key"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named(
    files: dict[str, Path], spoilt: str, content: bytes | None, capfd: pytest.CaptureFixture[str]
):
    if content is None:
        files[spoilt].unlink()
    else:
        files[spoilt].write_bytes(content)
    flags = [f"--zk-tls-{name}={file}" for name, file in files.items()]
    assert run_command(["purge", *flags]) == 2
    said = capfd.readouterr().err
    assert str(files[spoilt]) in said
    assert said.count("\n") == 1


def test_an_encrypted_key_is_refused_without_asking(files: dict[str, Path], authority: Authority):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(files["key"].read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"x")
    files["key"].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    with pytest.raises(Misconfigured, match="encrypted"):
        load(tls_access(files))


def test_a_server_that_hangs_in_the_tls_handshake_is_named():
    with socket.create_server(("127.0.0.1", 0)) as hung:  # whose backlog takes the connection
        address = hung.getsockname()
        attempts = Attempts("localhost", OPEN)
        handler = Handler(ssl.create_default_context(), 0.1, attempts)
        with pytest.raises(OSError, match="timed out"):
            handler.create_connection(address, "localhost")
    assert attempts.trouble.startswith(f"localhost:{address[1]}: no TLS: ")


# files that change


def test_files_that_stay_bring_nothing_new(user: Path):
    secrets = Secrets(Access(auth_file=str(user)))
    user.write_text(user.read_text())
    assert not secrets.renewed()


def test_a_file_that_changed_brings_new_credentials_once(user: Path):
    secrets = Secrets(Access(auth_file=str(user)))
    user.write_text("rpcregistry:other")
    assert secrets.renewed()
    assert secrets.credentials.options["auth_data"] == [("digest", "rpcregistry:other")]
    assert not secrets.renewed()


def test_a_file_that_cannot_be_used_for_a_while_changes_nothing(user: Path):
    secrets = Secrets(Access(auth_file=str(user)))
    before = secrets.credentials
    user.write_text("half-writ")
    assert not secrets.renewed()
    user.unlink()
    assert not secrets.renewed()
    assert secrets.credentials is before
    user.write_text("rpcregistry:other")
    assert secrets.renewed()


def test_a_certificate_is_taken_together_with_its_key(files: dict[str, Path], authority: Authority):
    secrets = Secrets(tls_access(files))
    before = secrets.credentials
    key, certificate = authority.issue("rpcregistry")
    files["cert"].write_bytes(certificate)
    assert not secrets.renewed()
    assert secrets.credentials is before
    files["key"].write_bytes(key)
    assert secrets.renewed()
