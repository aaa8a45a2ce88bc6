"""The authority and its certificates: names, validity, rights, and files.

No file is ever overwritten.
"""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from p2pfrl.net import certificates as pki
from p2pfrl.net.tls import CertificateError

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.fixture(name="authority")
def make_authority(tmp_path: Path) -> Path:
    pki.init(tmp_path / "pki", now=NOW)
    return tmp_path / "pki"


def test_authority_is_a_self_signed_p256_ca_for_ten_years_that_allows_no_authority_below_it(
    authority: Path,
) -> None:
    certificate = read(authority / "ca.crt")
    certificate.verify_directly_issued_by(certificate)
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"
    assert certificate.not_valid_before_utc == NOW - timedelta(days=1)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=3650)
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert basic.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature


def test_certificate_names_its_agents_and_hosts_and_serves_both_ends(authority: Path) -> None:
    paths = pki.issue(
        authority, [3, 0, -1], hosts=["10.0.0.7", "fe80::1", "Lab-3.local"], days=30, now=NOW
    )
    certificate = read(paths.certificate)
    certificate.verify_directly_issued_by(read(paths.authority))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [
        "coordinator.p2pfrl",
        "agent-0.p2pfrl",
        "agent-3.p2pfrl",
        "lab-3.local",
    ]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7", "fe80::1"]
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.not_valid_before_utc == NOW - timedelta(days=1)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=30)
    key = serialization.load_pem_private_key(paths.key.read_bytes(), password=None)
    assert key.public_key() == certificate.public_key()


def test_keys_are_for_the_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = pki.init(tmp_path / "pki", now=NOW)
        issued = pki.issue(tmp_path / "pki", [0], now=NOW)
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(issued.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.key.parent.stat().st_mode) == 0o700
    assert sorted(p.name for p in made.key.parent.iterdir()) == [
        "agent-0.crt",
        "agent-0.key",
        "ca.crt",
        "ca.key",
        "issued.jsonl",
    ]


@pytest.mark.parametrize("left", ["ca.crt", "ca.key"])
def test_init_never_overwrites_an_authority_or_the_half_of_one(authority: Path, left: str) -> None:
    for name in ("ca.crt", "ca.key"):
        if name != left:
            (authority / name).unlink()
    before = (authority / left).read_bytes()
    with pytest.raises(CertificateError, match=rf"{left}: expected no file, got one"):
        pki.init(authority, now=NOW)
    assert (authority / left).read_bytes() == before


def test_issue_never_overwrites_a_certificate(authority: Path) -> None:
    paths = pki.issue(authority, [3], now=NOW)
    before = paths.certificate.read_bytes(), paths.key.read_bytes()
    with pytest.raises(CertificateError, match="remove both files first"):
        pki.issue(authority, [3], now=NOW)
    assert (paths.certificate.read_bytes(), paths.key.read_bytes()) == before


@pytest.mark.parametrize(
    ("agents", "hosts", "days", "message"),
    [
        ([], [], 1, "agents: expected 1 to 1000 of them, got 0"),
        (range(1001), [], 1, "agents: expected 1 to 1000 of them, got 1001"),
        ([2, 2], [], 1, "agents: expected each once"),
        ([-(2**31) - 1], [], 1, "agents: expected ids from -2147483648"),
        ([2**31], [], 1, "agents: expected ids from -2147483648"),
        ([0], ["*.local"], 1, "hosts: expected a host name or an IP address, got '\\*.local'"),
        ([0], ["a..b"], 1, "hosts: expected a host name"),
        ([0], [""], 1, "hosts: expected a host name"),
        ([0], ["a\n"], 1, "hosts: expected a host name"),
        ([0], ["agent-5.p2pfrl"], 1, "hosts: names below .p2pfrl are those of agents"),
        ([0], ["COORDINATOR.P2PFRL"], 1, "hosts: names below .p2pfrl are those of agents"),
        ([0], [], 0, "days: expected 1 to 3650, got 0"),
    ],
)
def test_what_cannot_be_named_is_refused_and_nothing_is_written(
    authority: Path, agents: list[int], hosts: list[str], days: int, message: str
) -> None:
    with pytest.raises(CertificateError, match=message):
        pki.issue(authority, agents, hosts=hosts, days=days, now=NOW)
    assert sorted(p.name for p in authority.iterdir()) == ["ca.crt", "ca.key"]


def test_no_certificate_outlives_its_authority(authority: Path) -> None:
    later = NOW + timedelta(days=3600)
    with pytest.raises(CertificateError, match="ask for at most 50"):
        pki.issue(authority, [0], days=51, now=later)
    pki.issue(authority, [0], days=50, now=later)
    with pytest.raises(CertificateError, match="make a new authority"):
        pki.issue(authority, [1], days=1, now=NOW + timedelta(days=4000))


def test_issue_without_an_authority_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        CertificateError,
        match=r"ca\.crt: expected the authority, got: No such file.*p2pfrl pki init",
    ):
        pki.issue(tmp_path, [0], now=NOW)


def test_damaged_or_foreign_authority_files_are_named(authority: Path, tmp_path: Path) -> None:
    other = pki.init(tmp_path / "other", now=NOW)
    certificate, key = authority / "ca.crt", authority / "ca.key"
    whole = key.read_bytes()
    key.write_bytes(other.key.read_bytes())
    with pytest.raises(
        CertificateError, match=r"ca\.key: expected the key of .*ca\.crt, got another key"
    ):
        pki.issue(authority, [0], now=NOW)
    key.write_bytes(whole[:60])
    with pytest.raises(CertificateError, match=r"ca\.key: expected a key in PEM"):
        pki.issue(authority, [0], now=NOW)
    key.write_bytes(whole)
    certificate.write_bytes(whole)
    with pytest.raises(CertificateError, match=r"ca\.crt: expected a certificate in PEM"):
        pki.issue(authority, [0], now=NOW)


def test_directory_that_cannot_be_made_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CertificateError, match=r"file/pki/ca\.key: cannot be written: Not a directory"
    ):
        pki.init(tmp_path / "file" / "pki", now=NOW)


def test_what_is_said_names_every_file_and_the_last_day(authority: Path, tmp_path: Path) -> None:
    said = pki.issue(authority, [0, 1, 2], now=NOW).said
    assert str(authority / "agents-0-2.crt") in said
    assert str(authority / "agents-0-2.key") in said
    assert str(authority / "ca.crt") in said
    assert "2031-05-01" in said
    assert "p2pfrl pki issue" in pki.init(tmp_path / "second", now=NOW).said
