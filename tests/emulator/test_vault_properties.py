"""What is set of a vault changes, and what follows from it."""

from azure.keyvault.keys.aio import KeyClient

from byokd.emulator import Emulator
from emulator.support import KEY, VAULT, Wire
from emulator.test_cli import byokd


async def test_region_soft_delete_and_purge_protection_change_by_verb(vault: Emulator) -> None:
    ran = await byokd(vault, "vault", "set", VAULT, "--region", "East US", "--purge-protection")
    assert ran.exit_code == 0, ran.output
    shown = await vault.control.vault(VAULT)
    assert (shown["region"], shown["purge_protection"], shown["recovery_level"]) == ("East US", True, "Recoverable")
    ran = await byokd(vault, "vault", "set", VAULT, "--no-purge-protection", "--no-soft-delete")
    assert ran.exit_code == 0, ran.output
    shown = await vault.control.vault(VAULT)
    assert (shown["region"], shown["soft_delete"], shown["recovery_level"]) == ("East US", False, "Purgeable")


async def test_without_soft_delete_what_is_deleted_is_gone(vault: Emulator, wire: Wire, keys: KeyClient) -> None:
    await vault.control.change_vault(VAULT, soft_delete=False)
    key = await keys.get_key(KEY)
    assert key.properties.recovery_level == "Purgeable"
    await vault.control.delete_key(VAULT, KEY)
    shown = await vault.control.vault(VAULT)
    assert (shown["keys"], shown["deleted_keys"]) == ([], [])
    assert (await wire.send("GET", f"/keys/{KEY}")).status == 404
    await vault.control.delete_vault(VAULT)
    assert (await vault.control.state())["vaults"] == []
    await vault.control.create_vault(VAULT)
