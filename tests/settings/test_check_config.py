"""`byokd check-config` on settings that are well written, and yet will not do."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from byokd.cli.service import check_config
from identity.proofs import own_certificate
from settings.test_identities import GUID, of_kind

PUBLIC, GOVERNMENT = "vault.azure.net", "vault.usgovcloudapi.net"


def checked(tmp_path: Path, text: str) -> Result:
    path = tmp_path / "byokd.toml"
    path.write_text(text)
    return CliRunner().invoke(check_config, ["--settings", str(path)])


def certified(path: Path, **more: str) -> str:
    return of_kind("certificate", client_id=GUID, certificate_file=str(path), **more)


@pytest.mark.parametrize(
    ("dates", "code", "words"),
    [
        ({"ends_in": timedelta(hours=-1)}, 1, "error: the certificate of platform ended on 20"),
        ({"ends_in": timedelta(days=90), "holds": timedelta(days=80)}, 1, "error: the certificate of platform begins"),
        ({"ends_in": timedelta(days=3)}, 0, "warning: the certificate of platform ends on 20"),
        ({"ends_in": timedelta(days=90)}, 0, ""),
    ],
)
def test_a_certificate_that_does_not_hold_is_bad(
    tmp_path: Path, dates: dict[str, timedelta], code: int, words: str
) -> None:
    own_certificate(tmp_path / "app.pem", **dates)
    ran = checked(tmp_path, certified(tmp_path / "app.pem"))
    assert ran.exit_code == code, ran.output
    assert ran.stderr.startswith(words)
    assert ("hint: " in ran.stderr) == bool(words)
    assert ran.stdout == ("" if code else f"{tmp_path}/byokd.toml: good\n")


@pytest.mark.parametrize(
    ("dates", "code", "words"),
    [
        ({"ends_in": timedelta(hours=-1)}, 1, "error: mqtt.certificate_file: the certificate ended on 20"),
        ({"ends_in": timedelta(days=3)}, 0, "warning: mqtt.certificate_file: the certificate ends on 20"),
        ({"ends_in": timedelta(days=90)}, 0, ""),
    ],
)
def test_a_certificate_that_the_broker_will_not_take_is_bad(
    tmp_path: Path, dates: dict[str, timedelta], code: int, words: str
) -> None:
    own_certificate(tmp_path / "bus.pem", **dates)
    ran = checked(tmp_path, f'[mqtt]\nurl = "mqtts://localhost"\ncertificate_file = "{tmp_path}/bus.pem"\n')
    assert ran.exit_code == code, ran.output
    assert ran.stderr.startswith(words)
    assert ran.stdout == ("" if code else f"{tmp_path}/byokd.toml: good\n")


@pytest.mark.parametrize(
    ("authority", "suffixes", "warned"),
    [
        ("login.microsoftonline.us", [PUBLIC], True),
        ("login.microsoftonline.us", [PUBLIC, GOVERNMENT], False),
        ("login.microsoftonline.com", [GOVERNMENT], True),
        ("login.partner.microsoftonline.cn", [GOVERNMENT], True),
        ("login.microsoftonline.us", ["vault.example.net"], False),
    ],
)
def test_an_authority_of_a_cloud_without_vaults_is_questioned(
    tmp_path: Path,
    authority: str,
    suffixes: Sequence[str],
    warned: bool,  # noqa: FBT001 - drawn
) -> None:
    own_certificate(tmp_path / "app.pem", ends_in=timedelta(days=90))
    allowed = f"[vaults]\nallowed_suffixes = {list(suffixes)!r}\n".replace("'", '"')
    ran = checked(tmp_path, certified(tmp_path / "app.pem", authority=authority) + allowed)
    assert ran.exit_code == 0
    assert (f"warning: platform asks {authority}, but no vault of that cloud is allowed" in ran.stderr) == warned
    assert ran.stdout.endswith(": good\n")


def test_of_a_managed_identity_no_cloud_is_told(tmp_path: Path) -> None:
    ran = checked(tmp_path, of_kind("managed-identity") + f'[vaults]\nallowed_suffixes = ["{GOVERNMENT}"]\n')
    assert (ran.exit_code, ran.stderr) == (0, "")


def test_that_mended_mistakes_may_bring_out_others_is_said(tmp_path: Path) -> None:
    fits_no_kind = (
        '[event_grid.sources.one]\nkind = "queue"\naudience = "api://byokd"\nvaults = ["*.vault.azure.net"]\n'
    )
    ran = checked(tmp_path, fits_no_kind + 'visibility_timeout = "1 ms"\n')
    assert (ran.exit_code, "visibility_timeout" in ran.stderr, "audience" in ran.stderr) == (2, True, False)
    assert "whether settings fit each other is looked at once each of them is right" in ran.stderr
    ran = checked(tmp_path, fits_no_kind)
    assert (ran.exit_code, "audience does not belong to kind queue" in ran.stderr) == (2, True)
