"""The ways to vaults as the daemon has them: all three learn from each other, and pass on what they see."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

from byokd.adapters.keyvault.classify import Reply
from byokd.domain.answers import NoAnswer, Refused
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.runtime import wiring
from byokd.runtime.own_faults import VaultTimes
from byokd.settings import IdentitySettings, NetworkSettings, Settings, VaultSettings
from keyvault.test_names import GONE, SUFFIX, WITNESS
from keyvault.test_names import target as of
from parts.dns_server import Answers, DnsServer

REPLY = Reply("get", 404, {"x-ms-request-id": "8d2f", "Date": "Thu, 05 Nov 2026 11:00:00 GMT"}, None)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 5, 12, tzinfo=UTC)

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds


async def test_every_way_tells_the_time_and_asks_whether_a_vault_is_gone() -> None:
    times, told = VaultTimes(), []
    times.on_word(lambda _, ahead: told.append(ahead))
    async with AsyncExitStack() as stack, DnsServer.start({WITNESS: Answers.ALIASED}) as server:
        settings = Settings(
            identities={"platform": IdentitySettings()},
            vaults=VaultSettings(allowed_suffixes=(SUFFIX,)),
            network=NetworkSettings(nameservers=(server.address,)),
        )
        out = await wiring._ways_out(settings, stack, Clock(), times)
        ways = [out["probe_keys"], out["keys"], out["fresh_keys"]]
        for way in ways:
            unknown = await way.get(of(GONE))
            assert isinstance(unknown, NoAnswer)
            assert unknown.reason is Reason.NAME_NOT_RESOLVED
        ways[0]._names.answered(WITNESS)
        for way in ways:
            gone = await way.get(of(GONE))
            assert isinstance(gone, Refused)
            assert gone.kind is RefusalKind.VAULT_NOT_FOUND
        for way in ways:
            way._pass_on(WITNESS, REPLY)
        assert told == [timedelta(hours=1)] * 3
