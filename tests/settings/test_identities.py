"""Identities in the settings: what belongs to each kind, and files that would fail at the first use."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from byokd.runtime.configuration import SettingsInvalidError, read_settings
from byokd.runtime.identity_files import certificate_times
from byokd.settings.identities import names_by_resource_id
from identity.proofs import own_certificate, private_pem, rsa_key, service_account_token

GUID = "00000000-0000-0000-0000-00000000dead"
ARM_ID = f"/subscriptions/{GUID}/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/byokd-1"


def guid(number: int) -> str:
    return f"{GUID[:-1]}{number}"


def said_of(tmp_path: Path, text: str) -> str:
    path = tmp_path / "byokd.toml"
    path.write_text(text)
    with pytest.raises(SettingsInvalidError) as caught:
        read_settings(path, {})
    return "\n".join(mistake.message for mistake in caught.value.mistakes)


def of_kind(kind: str, **fields: str) -> str:
    lines = "".join(f'{name} = "{value}"\n' for name, value in fields.items())
    return f'[identities.platform]\nkind = "{kind}"\n{lines}'


def test_every_kind_can_be_written(tmp_path: Path) -> None:
    own_certificate(tmp_path / "app.pem")
    (tmp_path / "token").write_text(service_account_token())
    path = tmp_path / "byokd.toml"
    path.write_text(
        of_kind("managed-identity")
        + of_kind("managed-identity", resource_id=ARM_ID).replace("platform", "by-id")
        + of_kind("managed-identity", client_id=GUID.upper()).replace("platform", "by-client")
        + of_kind("workload-identity", client_id=guid(1), tenant=GUID, token_file=str(tmp_path / "token")).replace(
            "platform", "pods"
        )
        + of_kind(
            "certificate",
            client_id=guid(2),
            certificate_file=str(tmp_path / "app.pem"),
            authority="login.microsoftonline.us",
        ).replace("platform", "certified")
        + of_kind("cross-tenant", client_id=guid(3), via="by-id").replace("platform", "vendor")
        + "shared = true\n"
    )
    identities = read_settings(path, {}).identities
    assert [one.kind for one in identities.values()] == [
        *(["managed-identity"] * 3),
        "workload-identity",
        "certificate",
        "cross-tenant",
    ]
    assert [one.shared for one in identities.values()] == [*([False] * 5), True]
    assert identities["by-client"].client_id == GUID
    assert names_by_resource_id(identities) == {ARM_ID.lower(): "by-id"}
    assert certificate_times(tmp_path / "app.pem") is not None


def test_one_application_is_one_identity_however_it_proves_itself(tmp_path: Path) -> None:
    own_certificate(tmp_path / "app.pem")
    own_certificate(tmp_path / "other.pem", key=2)
    certified, other, vendor = (
        of_kind("certificate", client_id=GUID, certificate_file=str(tmp_path / "app.pem")),
        of_kind("certificate", client_id=GUID.upper(), certificate_file=str(tmp_path / "other.pem")),
        of_kind("managed-identity")
        + of_kind("cross-tenant", client_id=GUID, via="platform").replace("platform]", "v]"),
    )
    alike = "are the same identity, and not both shared"
    assert alike in said_of(tmp_path, certified + other.replace("platform]", "two]"))
    assert alike in said_of(tmp_path, certified.replace("platform]", "one]") + "shared = true\n" + vendor)
    path = tmp_path / "byokd.toml"
    path.write_text(certified.replace("platform]", "one]") + "shared = true\n" + vendor + "shared = true\n")
    assert set(read_settings(path, {}).identities) == {"one", "platform", "v"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (of_kind("secret"), "[identities.platform] kind"),
        (of_kind("managed-identity", client_id="platform"), "[identities.platform] client_id: not a GUID"),
        (of_kind("managed-identity", resource_id="/subscriptions/x"), "not the ARM id of a user-assigned"),
        (of_kind("managed-identity", resource_id=ARM_ID + "/../x"), "not the ARM id of a user-assigned"),
        (
            of_kind("managed-identity", client_id=GUID, resource_id=ARM_ID),
            "[identities.platform]: client_id and resource_id name the identity twice",
        ),
        (
            of_kind("managed-identity", tenant=GUID),
            "[identities.platform]: tenant does not belong to kind managed-identity",
        ),
        (of_kind("managed-identity", authority="login.microsoftonline.us"), "authority does not belong to kind"),
        (of_kind("certificate", client_id=GUID), "certificate_file is missing: a PEM file"),
        (of_kind("certificate", certificate_file="/nowhere.pem"), "client_id is missing"),
        (of_kind("certificate", client_id=GUID, certificate_file="app.pem"), "not an absolute path"),
        (
            of_kind("certificate", client_id=GUID, certificate_file="/nowhere.pem"),
            "[identities.platform] certificate_file: cannot be read: No such file",
        ),
        (of_kind("workload-identity", client_id=GUID), "tenant is missing: the tenant in which"),
        (
            of_kind("workload-identity", client_id=GUID, tenant=GUID, token_file="/nowhere"),
            "[identities.platform] token_file: cannot be read: No such file",
        ),
        (of_kind("cross-tenant", client_id=GUID), "via is missing: the name of the managed identity"),
        (of_kind("cross-tenant", via="platform"), "client_id is missing"),
        (
            of_kind("cross-tenant", client_id=GUID, via="nobody"),
            "[identities.platform] via: nobody is no managed identity of these settings",
        ),
        (of_kind("cross-tenant", client_id=GUID, via="platform"), "platform is no managed identity of these settings"),
        (
            of_kind("cross-tenant", client_id=GUID, via="x", authority="login.example"),
            "[identities.platform] authority",
        ),
        (
            of_kind("managed-identity", resource_id=ARM_ID)
            + of_kind("managed-identity", resource_id=ARM_ID.upper()).replace(
                "[identities.platform", "[identities.two"
            ),
            "[identities.two] resource_id: it is that of [identities.platform] already",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(tmp_path: Path, text: str, named: str) -> None:
    said = said_of(tmp_path, text)
    assert named in said
    assert "identities: [" not in said, "each place is named once"


def with_passphrase(path: Path) -> None:
    form = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    locked = rsa_key(0).private_bytes(serialization.Encoding.PEM, *form)
    path.write_bytes(path.read_bytes().replace(private_pem(rsa_key(0)), locked))


def with_an_elliptic_key(path: Path) -> None:
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(serialization.Encoding.PEM, *form)
    path.write_bytes(path.read_bytes().replace(private_pem(rsa_key(0)), curve))


def without(words: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes().replace(words, b"NOTHING"))


def instead_of_a_file(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda path: path.chmod(0o640), "others than its owner can read it, and with it the private key"),
        (lambda path: path.chmod(0o604), "others than its owner can read it, and with it the private key"),
        (without(b"PRIVATE KEY"), "holds no private key in PEM"),
        (without(b"CERTIFICATE"), "holds no PEM certificate"),
        (with_passphrase, "its private key wants a passphrase"),
        (with_an_elliptic_key, "its private key is no RSA key"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(private_pem(rsa_key(0)), private_pem(rsa_key(2)))),
            "its private key is not that of its first certificate",
        ),
        (lambda path: path.write_bytes(path.read_bytes() + b"x" * 300_000), "has more than 256 KB"),
        (instead_of_a_file, "not a file"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_refused_before_the_start(
    tmp_path: Path, spoil: Callable[[Path], object], named: str
) -> None:
    own_certificate(tmp_path / "app.pem")
    spoil(tmp_path / "app.pem")
    text = of_kind("certificate", client_id=GUID, certificate_file=str(tmp_path / "app.pem"))
    said = said_of(tmp_path, text)
    assert f"[identities.platform] certificate_file: {named}" in said
    assert "write the path of a PEM file with the certificate and its RSA key" in said
    assert "BEGIN" not in said
    assert certificate_times(tmp_path / "app.pem") is None


@pytest.mark.parametrize("content", [b"", b"no token", b"\xff.a.b", b"a.b"])
def test_a_file_without_a_token_is_refused_before_the_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    text = of_kind("workload-identity", client_id=GUID, tenant=GUID, token_file=str(tmp_path / "token"))
    assert "[identities.platform] token_file: holds no token (a JWT)" in said_of(tmp_path, text)
