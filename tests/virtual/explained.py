"""What `byokd explain` says, and what it promises, tried."""

from typing import Any

from byokd.cli import explain as command
from byokd.domain.identifiers import AccountId
from byokd.runtime.unusable import UnavailableError
from virtual.using import REF, reveal
from virtual.world import World


def text_of(found: dict[str, Any]) -> str:
    return "\n".join(command._lines(found))


async def what_needs_no_key_works(world: World, account: AccountId) -> None:
    assert (await world.account(account)).id == account
    assert [info.ref for info in await world.service.values.list(account)] == [REF]
    await world.service.values.remove(account, REF)


async def is_refused(world: World, account: AccountId) -> bool:
    try:
        await reveal(world, account)
    except UnavailableError:
        return True
    return False
