"""What the listener for agents shows: a certificate made once for the workspace, or the owner's."""

from __future__ import annotations

import datetime
import os
import ssl
from dataclasses import dataclass

from windlass import settings
from windlass.errors import ComputeTargetException

FILE = "agents.pem"
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_MISMATCH = "KEY_VALUES_MISMATCH"


@dataclass(frozen=True)
class Certificate:
    """A context for the listener, and what agents pin."""

    context: ssl.SSLContext
    pinned: str | None
    """PEM; None when agents ask their machine's authorities."""


def load(folder: str) -> Certificate:
    """The owner's certificate where one is set, else the workspace's in ``folder``, which is made when absent.

    Raises:
        ComputeTargetException: a file is missing, cannot be read or used; the message says what to do.
    """
    owners, key = settings.get("agents_certificate"), settings.get("agents_key")
    if owners or key:
        return _owners(owners, key)
    path = os.path.join(folder, FILE)
    if not os.path.exists(path):
        _make(path)
    return Certificate(_context(path, None, _MEND.format(path)), _certificate_in(path))


def _owners(path: str | None, key: str | None) -> Certificate:
    if path is None:
        raise ComputeTargetException(
            f"agents_key is {key!r}, but agents_certificate is not set. Set both, or neither: then a certificate is "
            "made for the workspace."
        )
    for name, value in (("agents_certificate", path), ("agents_key", key)):
        if value is not None:
            _check_readable(name, value)
    _check_dates(path)
    where = f"agents_key {key!r}" if key else f"agents_certificate {path!r}"
    return Certificate(_context(path, key, f"Correct agents_certificate {path!r} or {where}."), None)


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb") as f:
            f.read(1)
    except OSError as problem:
        raise ComputeTargetException(
            f"{name} is {path!r}, which cannot be read: {problem.strerror}. Name a PEM file that this server's user "
            "can read."
        ) from problem


def _check_dates(path: str) -> None:
    from cryptography import x509  # only here: it takes as long to load as the server needs to start

    with open(path, "rb") as f:
        text = f.read()
    try:
        certificate = x509.load_pem_x509_certificates(text)[0]
    except ValueError as problem:
        raise ComputeTargetException(
            f"agents_certificate is {path!r}, which holds no certificate in PEM form ({problem})."
        ) from problem
    now = datetime.datetime.now(datetime.UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begins <= now < ends:
        when = f"expired on {ends:%Y-%m-%d %H:%M} UTC" if now >= ends else f"is good from {begins:%Y-%m-%d %H:%M} UTC"
        raise ComputeTargetException(
            f"agents_certificate is {path!r}, whose certificate {when}; it is {now:%Y-%m-%d %H:%M} UTC now. Renew it, "
            "or unset agents_certificate and agents_key: then one is made for the workspace."
        )


def _context(path: str, key: str | None, way_out: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(path, key, password=lambda: b"")  # never ask at a terminal
    except (ssl.SSLError, OSError, ValueError) as problem:
        why = str(problem)
        if _MISMATCH in why:
            why = "the private key does not belong to the certificate"
        elif isinstance(problem, ssl.SSLError):
            why = "it holds no private key that can be read, such as one with a password"
        raise ComputeTargetException(
            f"The listener for agents on other machines cannot use {key or path!r}: {why}. {way_out}"
        ) from problem
    return context


_MEND = (
    "Bring {0} back from a backup, or remove it and start the server again: a new one is made then, which agents that "
    "run already do not trust."
)


def _certificate_in(path: str) -> str:
    with open(path, encoding="ascii") as f:
        text = f.read()
    return text[text.index("-----BEGIN CERTIFICATE-----") :]


def _make(path: str) -> None:
    """Write a key and a certificate of it that is good for ever: agents compare it whole, whatever their clocks say."""
    from cryptography import x509  # only here, as above
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "windlass")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("windlass")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    beside = path + ".tmp"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(fd, "wb") as f:
        f.write(private + made.public_bytes(serialization.Encoding.PEM))
        f.flush()
        os.fsync(fd)
    os.replace(beside, path)
