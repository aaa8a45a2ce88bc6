"""Certificates of processes that run: renewed, revoked, and about to expire."""

import asyncio
import os
import shutil
import ssl
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from test_bad_input import HONEST, VICTIM, WAIT, Log, decoder, house, identity

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.deploy.keyring import Certified
from p2pfrl.exchange.secure.errors import SecureError
from p2pfrl.net import certificates as pki
from p2pfrl.net.credentials import Credentials
from p2pfrl.net.listener import listen
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.net.options import Current, Files, Relay
from p2pfrl.net.rendezvous import Rendezvous, join
from p2pfrl.net.revoked import REVOKED, read_revoked
from p2pfrl.net.tls import CertificateError, agents_of, contexts

NOW = datetime.now(UTC)


@pytest.fixture(name="authority")
def make_authority(tmp_path: Path) -> Path:
    folder = tmp_path / "pki"
    pki.init(folder)
    for agent in (HONEST, VICTIM):
        pki.issue(folder, [agent], days=30)
    return folder


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def files_of(authority: Path, agent: int) -> Files:
    name = authority / f"agent-{agent}"
    return Files(authority / "ca.crt", name.with_suffix(".crt"), name.with_suffix(".key"))


def security_of(authority: Path, agent: int) -> Security:
    relay, files = Relay(), files_of(authority, agent)
    pair = contexts(files.authority, files.certificate, files.key, on_refused=relay)
    return Security(b"", *pair, agents_of, relay, files)


def credentials_of(authority: Path, agent: int) -> tuple[Credentials, Security, Log]:
    security, log = security_of(authority, agent), Log()
    assert security.files is not None
    return Credentials(security, security.files, [agent], log), security, log


def details(log: Log) -> list[str]:
    return [str(line["detail"]) for line in log.lines if line["what"] == "certificate"]


def shown(security: Security) -> int:
    """Return the serial number of the certificate that new connections are shown."""
    assert security.server is not None
    assert security.client is not None
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialer = security.client.wrap_bio(back, there)
    acceptor = security.server.wrap_bio(there, back, server_side=True)
    for side in (dialer, acceptor, dialer, acceptor):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    serials = [(side.getpeercert() or {})["serialNumber"] for side in (dialer, acceptor)]
    assert serials[0] == serials[1]
    return int(str(serials[0]), 16)


# The authority.


def test_a_renewed_certificate_has_the_names_and_the_key_of_the_old_one(tmp_path: Path) -> None:
    pki.init(tmp_path)
    made = pki.issue(tmp_path, [0, 1], hosts=["10.0.0.7"], days=30)
    old, key = read(made.certificate), made.key.read_bytes()
    made.key.rename(tmp_path / "elsewhere")
    again = pki.renew(tmp_path, [1, 0], days=200)
    new = read(again.certificate)
    assert again.certificate == made.certificate
    assert new.public_key() == old.public_key()
    assert new.serial_number != old.serial_number
    assert new.not_valid_after_utc - old.not_valid_after_utc >= timedelta(days=169)
    for kind in (x509.SubjectAlternativeName, x509.ExtendedKeyUsage, x509.BasicConstraints):
        extension = new.extensions.get_extension_for_class(kind)
        assert extension == old.extensions.get_extension_for_class(kind)
    (tmp_path / "elsewhere").rename(made.key)
    assert made.key.read_bytes() == key
    contexts(again.authority, again.certificate, made.key)


def test_what_cannot_be_renewed_is_refused_and_the_file_stays(authority: Path) -> None:
    path = authority / f"agent-{VICTIM}.crt"
    before = path.read_bytes()
    with pytest.raises(CertificateError, match=r"agent-9.crt: expected the certificate that pki"):
        pki.renew(authority, [9])
    with pytest.raises(CertificateError, match="no later than the authority's"):
        pki.renew(authority, [VICTIM], days=3650, now=NOW + timedelta(days=2))
    shutil.copy(authority / "ca.key", authority / "agent-9.crt")
    with pytest.raises(CertificateError, match="expected a certificate of the authority"):
        pki.renew(authority, [9])
    pki.revoke(authority, [VICTIM])
    with pytest.raises(CertificateError, match="is revoked"):
        pki.renew(authority, [VICTIM])
    assert path.read_bytes() == before


def test_all_certificates_of_a_process_are_revoked_and_no_others(authority: Path) -> None:
    first = read(authority / f"agent-{VICTIM}.crt").serial_number
    second = read(pki.renew(authority, [VICTIM]).certificate).serial_number
    pki.issue(authority, [VICTIM, 7])
    made = pki.revoke(authority, [VICTIM])
    path, signer = authority / REVOKED, read(authority / "ca.crt")
    assert set(read_revoked(path, signer)) == {first, second}
    assert "2 revoked, 2 of them now" in made.said
    assert "2 revoked, 0 of them now" in pki.revoke(authority, [VICTIM]).said
    pki.revoke(authority, [HONEST])
    assert len(read_revoked(path, signer)) == 3
    with pytest.raises(CertificateError, match="issued for agent-9, got none"):
        pki.revoke(authority, [9])


def test_a_certificate_that_no_list_has_is_revoked_by_its_file(authority: Path) -> None:
    (authority / pki.ISSUED).unlink()
    pki.revoke(authority, [VICTIM])
    found = read_revoked(authority / REVOKED, read(authority / "ca.crt"))
    assert set(found) == {read(authority / f"agent-{VICTIM}.crt").serial_number}
    (authority / pki.ISSUED).write_text("{}\n")
    with pytest.raises(CertificateError, match=r"issued.jsonl: expected a certificate per line"):
        pki.revoke(authority, [HONEST])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is another reader of the list")
def test_openssl_refuses_a_revoked_certificate_and_no_other(authority: Path) -> None:
    pki.revoke(authority, [VICTIM])
    command = ["openssl", "verify", "-x509_strict", "-crl_check", "-CAfile", "ca.crt"]
    command += ["-CRLfile", REVOKED]
    for agent, code in ((VICTIM, 2), (HONEST, 0)):
        done = subprocess.run(
            [*command, f"agent-{agent}.crt"], cwd=authority, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        assert ("certificate revoked" in done.stderr) == bool(code)


# A process that runs.


def test_a_renewed_certificate_is_shown_without_a_restart(authority: Path) -> None:
    credentials, security, log = credentials_of(authority, VICTIM)
    before = shown(security)
    assert not credentials.look()
    assert shown(security) == before == read(authority / f"agent-{VICTIM}.crt").serial_number
    new = read(pki.renew(authority, [VICTIM], days=300).certificate)
    assert not credentials.look()
    assert shown(security) == new.serial_number != before
    assert security.current.renewals == 1
    assert details(log) == [f"renewed: valid until {new.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"]
    credentials.look()
    assert len(details(log)) == 1


def garbage(authority: Path) -> None:
    (authority / f"agent-{VICTIM}.crt").write_bytes(b"-----BEGIN CERTIFICATE-----\n")


def foreign(authority: Path) -> None:
    other = authority.with_name("other")
    pki.init(other)
    pki.issue(other, [VICTIM])
    for kind in ("crt", "key"):
        shutil.copy(other / f"agent-{VICTIM}.{kind}", authority)


def of_others(authority: Path) -> None:
    for kind in ("crt", "key"):
        shutil.copy(authority / f"agent-{HONEST}.{kind}", authority / f"agent-{VICTIM}.{kind}")


def without_its_key(authority: Path) -> None:
    shutil.copy(authority / f"agent-{HONEST}.crt", authority / f"agent-{VICTIM}.crt")


def gone(authority: Path) -> None:
    (authority / f"agent-{VICTIM}.crt").unlink()


def no_list(authority: Path) -> None:
    (authority / REVOKED).write_bytes(b"-----BEGIN X509 CRL-----\nAAAA\n")


def foreign_list(authority: Path) -> None:
    other = authority.with_name("other")
    pki.init(other)
    pki.issue(other, [VICTIM])
    pki.revoke(other, [VICTIM])
    shutil.copy(other / REVOKED, authority)


def test_a_list_counts_though_a_certificate_beside_it_is_bad(authority: Path) -> None:
    credentials, security, _ = credentials_of(authority, VICTIM)
    pki.revoke(authority, [HONEST])
    garbage(authority)
    assert credentials.look()
    assert len(security.current.revoked) == 1


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "garbage": (garbage, "expected a certificate and its key in PEM"),
    "of another authority": (foreign, "one of another"),
    "of other agents": (of_others, f"that names agents {VICTIM}, got {HONEST}"),
    "without its key": (without_its_key, "the key of another certificate"),
    "gone": (gone, "expected the certificate, got"),
    "a list that is none": (no_list, "expected a list of revoked certificates"),
    "a list of another authority": (foreign_list, "not signed by the authority"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_change_nothing_and_are_named_once(authority: Path, name: str) -> None:
    spoil, why = BAD[name]
    credentials, security, log = credentials_of(authority, VICTIM)
    before = shown(security)
    spoil(authority)
    assert not credentials.look()
    assert not credentials.look()
    assert shown(security) == before
    assert security.current == Current()
    found = details(log)
    assert any("not read again" in line and why in line for line in found), found
    assert len(found) == 1


def test_an_older_list_takes_nothing_back_and_a_damaged_one_is_no_start(authority: Path) -> None:
    pki.revoke(authority, [HONEST])
    old = (authority / REVOKED).read_bytes()
    credentials, security, log = credentials_of(authority, VICTIM)
    assert len(security.current.revoked) == 1
    pki.issue(authority, [7])
    pki.revoke(authority, [7])
    assert credentials.look()
    assert len(security.current.revoked) == 2
    (authority / REVOKED).write_bytes(old)
    assert not credentials.look()
    assert len(security.current.revoked) == 2
    assert "lacks 1 certificates" in details(log)[-1]
    (authority / REVOKED).write_bytes(old[:-60])
    with pytest.raises(CertificateError, match="expected a list of revoked certificates"):
        credentials_of(authority, VICTIM)


def test_who_is_revoked_does_not_start_and_is_told_while_it_runs(authority: Path) -> None:
    credentials, _, log = credentials_of(authority, VICTIM)
    pki.revoke(authority, [VICTIM])
    assert credentials.look()
    assert "this process's own among them" in details(log)[-1]
    with pytest.raises(CertificateError, match="others refuse it; ask who has the authority"):
        credentials_of(authority, VICTIM)


def test_an_end_is_announced_from_a_week_before_on_once_a_day_until_it_is_renewed(
    authority: Path,
) -> None:
    credentials, _, log = credentials_of(authority, VICTIM)
    end = read(authority / f"agent-{VICTIM}.crt").not_valid_after_utc
    hour = timedelta(hours=1)
    for days, count in ((7.1, 0), (6.9, 1), (6.5, 1), (5.8, 2), (-1.0, 3)):
        for _ in range(2):
            credentials.look(end - timedelta(days=days))
        assert len(details(log)) == count
    assert "expires on" in details(log)[0]
    assert "p2pfrl pki renew" in details(log)[0]
    assert "has expired on" in details(log)[2]
    pki.renew(authority, [VICTIM])
    credentials.look(end)
    assert len(details(log)) == 4
    assert details(log)[3].startswith("renewed")
    late = read(authority / "ca.crt").not_valid_after_utc - hour
    credentials.look(late)
    assert [line for line in details(log)[4:] if "ca.crt expires on" in line]


def run(main: Callable[[], object]) -> None:
    asyncio.run(asyncio.wait_for(main(), 60))  # type: ignore[arg-type]


def test_who_is_revoked_is_cut_off_and_told_and_does_not_come_back(authority: Path) -> None:
    async def main() -> None:
        async with house(security=lambda agent: security_of(authority, agent)) as there:
            security = there.victim._security
            assert security.files is not None
            credentials = Credentials(security, security.files, [VICTIM], there.log)
            await there.rounds(2)
            pki.revoke(authority, [HONEST])
            assert credentials.look()
            there.victim.expel_revoked()
            async with asyncio.timeout(WAIT):
                while there.honest.refusals.get("refused_by_peer", 0) < 3:
                    await asyncio.sleep(0.01)
            assert there.victim.refusals.keys() == {"certificate_revoked"}
            assert there.victim.refusals["certificate_revoked"] >= 3
            assert HONEST in there.victim.down()
            # Another certificate of the same agent is welcome.
            for kind in ("crt", "key"):
                os.remove(authority / f"agent-{HONEST}.{kind}")
            pki.issue(authority, [HONEST])
            files = files_of(authority, HONEST)
            for context in (there.honest._security.server, there.honest._security.client):
                assert context is not None
                context.load_cert_chain(files.certificate, files.key)
            async with asyncio.timeout(WAIT):
                while HONEST in there.victim.down() or there.honest.down():
                    await asyncio.sleep(0.01)
            await there.rounds(2)

    run(main)


@pytest.mark.parametrize("revoked", [HONEST, VICTIM], ids=["the follower", "the lead"])
def test_who_is_revoked_meets_nobody(authority: Path, revoked: int) -> None:
    async def main() -> None:
        pki.revoke(authority, [revoked])
        numbers = frozenset(read_revoked(authority / REVOKED, read(authority / "ca.crt")))
        home, follower = security_of(authority, VICTIM), security_of(authority, HONEST)
        home.current.revoked = follower.current.revoked = numbers
        common = {"decoder": decoder(), "timing": Timing(start=WAIT), "progress": lambda text: None}
        listener, where = await listen(("127.0.0.1", 0), home.server)
        own, log = identity(VICTIM), Log()
        lead = Rendezvous(own, where, everyone=[0, 1], security=home, log=log, **common)  # type: ignore[arg-type]
        gathering = asyncio.create_task(lead.gather(listener))
        await asyncio.sleep(0)
        try:
            with pytest.raises(P2PFRLError, match="the authority has revoked certificate"):
                await join(
                    identity(HONEST),
                    where,
                    wanted=[HONEST],
                    count=1,
                    security=follower,
                    **common,  # type: ignore[arg-type]
                )
        finally:
            gathering.cancel()
            listener.server.close()

    run(main)


# Secure sums.


def test_keys_signed_with_a_revoked_certificate_are_refused_and_renewed_ones_are_sent(
    authority: Path,
) -> None:
    current = Current()
    own, other = (Certified(files_of(authority, agent), current) for agent in (HONEST, VICTIM))
    before = own.sign(b"keys")
    serial = read(authority / f"agent-{HONEST}.crt").serial_number
    other.verify(HONEST, b"keys", before)
    pki.renew(authority, [HONEST])
    current.revoked, current.renewals = frozenset({serial}), 1
    with pytest.raises(SecureError, match="it is revoked"):
        other.verify(HONEST, b"keys", before)
    other.verify(HONEST, b"keys", own.sign(b"keys"))
