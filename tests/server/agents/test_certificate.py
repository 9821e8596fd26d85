"""The owner's certificate: used as it is, and what is wrong with it said in words."""

from __future__ import annotations

import datetime
import os
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from windlass.errors import ComputeTargetException
from windlassd.server.agents import certificate


def made(folder: Path, name: str, days: int = 30, password: bytes | None = None) -> tuple[str, str]:
    """Files of a certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    shown = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=60))
        .not_valid_after(now + datetime.timedelta(days=days)).sign(key, hashes.SHA256())
    )  # fmt: skip
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    paths = str(folder / f"{name}.crt"), str(folder / f"{name}.key")
    Path(paths[0]).write_bytes(shown.public_bytes(serialization.Encoding.PEM))
    Path(paths[1]).write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    return paths


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    def load(shown: str | None, key: str | None) -> certificate.Certificate:
        for name, value in (("WINDLASS_AGENTS_CERTIFICATE", shown), ("WINDLASS_AGENTS_KEY", key)):
            if value is not None:
                monkeypatch.setenv(name, value)
        return certificate.load(str(tmp_path))

    return load


def test_the_owners_is_used_and_not_pinned(tmp_path: Path, use) -> None:  # type: ignore[no-untyped-def]
    assert use(*made(tmp_path, "good")).pinned is None
    assert not (tmp_path / "agents.pem").exists()


def test_a_file_may_hold_both(tmp_path: Path, use) -> None:  # type: ignore[no-untyped-def]
    shown, key = made(tmp_path, "both")
    Path(shown).write_bytes(Path(shown).read_bytes() + Path(key).read_bytes())
    assert use(shown, None).pinned is None


def test_what_is_wrong_with_it_is_said(tmp_path: Path, use) -> None:  # type: ignore[no-untyped-def]
    good, good_key = made(tmp_path, "good")
    expired, expired_key = made(tmp_path, "expired", days=-1)
    _, locked = made(tmp_path, "locked", password=b"secret")
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    for shown, key, words in (
        (None, good_key, "agents_certificate is not set"),
        (str(tmp_path / "absent"), good_key, "No such file"),
        (good, str(tmp_path / "absent"), "agents_key.*No such file"),
        (str(tmp_path), good_key, "directory"),
        (str(junk), good_key, "holds no certificate"),
        (expired, expired_key, r"expired on .* Renew it"),
        (good, expired_key, "does not belong to the certificate"),
        (good, locked, "no private key that can be read"),
        (good, str(junk), "no private key that can be read"),
        (good, None, "no private key that can be read"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("WINDLASS_AGENTS_CERTIFICATE", raising=False)
            patch.delenv("WINDLASS_AGENTS_KEY", raising=False)
            with pytest.raises(ComputeTargetException, match=words):
                use(shown, key)
        for name in ("WINDLASS_AGENTS_CERTIFICATE", "WINDLASS_AGENTS_KEY"):
            os.environ.pop(name, None)


def test_a_damaged_one_of_the_workspace_is_not_replaced_behind_its_owners_back(tmp_path: Path) -> None:
    certificate.load(str(tmp_path))
    (tmp_path / "agents.pem").write_text("junk")
    with pytest.raises(ComputeTargetException, match="a new one is made then, which agents that run already do not"):
        certificate.load(str(tmp_path))
    assert (tmp_path / "agents.pem").read_text() == "junk"


def test_other_tools_find_the_certificate_sound(tmp_path: Path) -> None:
    certificate.load(str(tmp_path))
    path = str(tmp_path / "agents.pem")
    said = subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", path, path], capture_output=True, text=True)
    assert said.returncode == 0, said
