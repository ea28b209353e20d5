"""When a name that does not resolve means that the vault is gone: real questions to a real DNS server."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from byokd.adapters.keyvault import names as module
from byokd.adapters.keyvault.names import MOST_WITNESSES, WITNESS_AGE, VaultNames
from byokd.adapters.keyvault.service import Bystanders
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.answers import NoAnswer, Refused
from byokd.domain.identifiers import IdentityName, KeyIdentifier, KeyVersion, TenantId, VaultHost
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.ports import KeyTarget
from byokd.settings import NetworkSettings, VaultSettings
from keyvault.double import Double, Tokens, answer, challenge
from keyvault.way import ServiceOver
from parts.dns_server import Answers, DnsServer

SUFFIX = "vault.byokd.invalid"
GONE, WITNESS, SECOND, ELSEWHERE = (
    VaultHost(name) for name in (f"gone.{SUFFIX}", f"lives.{SUFFIX}", f"too.{SUFFIX}", "lives.vault.other.invalid")
)
RESOLVES = {Answers.ADDRESS, Answers.ALIASED}


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        return self.time


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """A server that is silent costs the test little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ONE_QUESTION", timedelta(milliseconds=50))
        yield


async def is_gone(*servers: dict[str, Answers], witnesses: tuple[VaultHost, ...] = (WITNESS,), **routed: str) -> bool:
    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(DnsServer.start(said)) for said in servers]
        network = NetworkSettings(nameservers=tuple(one.address for one in running), connect_to=routed)
        names = VaultNames(network, Clock())
        for witness in witnesses:
            names.answered(witness)
        return await names.is_gone(GONE)


@pytest.mark.parametrize(
    ("said", "gone"), [(said, said is Answers.NXDOMAIN) for said in Answers], ids=[said.name for said in Answers]
)
async def test_only_nxdomain_without_an_alias_says_that_a_vault_is_gone(said: Answers, gone: bool) -> None:  # noqa: FBT001
    assert await is_gone({GONE: said, WITNESS: Answers.ALIASED}) is gone


@pytest.mark.parametrize(
    ("said", "gone"), [(said, said in RESOLVES) for said in Answers], ids=[said.name for said in Answers]
)
async def test_only_while_the_same_server_knows_another_vault(said: Answers, gone: bool) -> None:  # noqa: FBT001
    assert await is_gone({WITNESS: said}) is gone


async def test_the_witness_must_be_of_the_same_cloud_and_another_name() -> None:
    known = {GONE: Answers.NXDOMAIN, ELSEWHERE: Answers.ALIASED}
    assert not await is_gone(known, witnesses=())
    assert not await is_gone(known, witnesses=(ELSEWHERE,))
    assert not await is_gone(known, witnesses=(GONE,))


async def test_one_witness_of_two_is_enough() -> None:
    known = {WITNESS: Answers.ALIASED, SECOND: Answers.NXDOMAIN}
    assert await is_gone(known, witnesses=(WITNESS, SECOND))
    assert await is_gone(known, witnesses=(WITNESS, SECOND, GONE)), "its own answers are in nobody's way"


async def test_a_name_that_is_led_elsewhere_is_never_gone_and_no_witness() -> None:
    known = {WITNESS: Answers.ALIASED}
    assert not await is_gone(known, **{"gone.*": "127.0.0.1:1"})
    assert not await is_gone(known, **{f"LIVES.{SUFFIX}": "127.0.0.1:1"})
    assert not await is_gone(known, **{"*": "127.0.0.1:1"})


async def test_servers_that_disagree_prove_nothing_and_a_silent_one_has_no_say() -> None:
    known = {WITNESS: Answers.ALIASED}
    assert await is_gone(known, known)
    assert not await is_gone(known, {**known, GONE: Answers.DANGLING})
    assert not await is_gone(known, {**known, GONE: Answers.ADDRESS})
    assert not await is_gone(known, {}), "one that knows no vault at all is the wrong one to ask"
    assert await is_gone(known, {GONE: Answers.SILENCE})
    assert await is_gone(known, {GONE: Answers.SERVFAIL})
    assert not await is_gone({GONE: Answers.SILENCE}, {GONE: Answers.SILENCE})


async def test_a_vault_that_answered_long_ago_is_no_witness() -> None:
    clock = Clock()
    async with DnsServer.start({WITNESS: Answers.ALIASED}) as server:
        names = VaultNames(NetworkSettings(nameservers=(server.address,)), clock)
        names.answered(WITNESS)
        clock.time = WITNESS_AGE.total_seconds()
        assert await names.is_gone(GONE)
        clock.time += 1
        assert not await names.is_gone(GONE)


async def test_few_are_remembered_those_that_answered_last() -> None:
    async with DnsServer.start({WITNESS: Answers.ALIASED}) as server:
        names = VaultNames(NetworkSettings(nameservers=(server.address,)), Clock())
        for number in range(1000):
            names.answered(VaultHost(f"v{number}.{SUFFIX}"))
        assert sum(map(len, names._witnesses.values())) == MOST_WITNESSES
        assert not await names.is_gone(GONE)
        names.answered(WITNESS)
        assert await names.is_gone(GONE)
        assert len(server.asked) == 6, "the name and two witnesses, each time"


async def test_the_servers_of_the_system_are_asked_where_none_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with DnsServer.start({WITNESS: Answers.ALIASED}) as server:
        host, _, port = server.address.partition(":")
        monkeypatch.setattr(module, "_DNS_PORT", int(port))
        system = tmp_path / "resolv.conf"
        monkeypatch.setattr(module, "_SYSTEM", str(system))
        names = VaultNames(NetworkSettings(), Clock())
        names.answered(WITNESS)
        assert not await names.is_gone(GONE), "there is no such file"
        system.write_text(f"search {SUFFIX}\nnameserver {host}\n")
        assert await names.is_gone(GONE)


WORDS = st.sampled_from([*Answers, Answers.NXDOMAIN, Answers.ALIASED])


@settings(deadline=None, max_examples=60)
@given(
    servers=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=2),
    witnessed=st.booleans(),
    routed=st.sampled_from([None, "gone.*", "lives.*"]),
)
@example(servers=[(Answers.NXDOMAIN, Answers.ALIASED)], witnessed=True, routed=None)
def test_never_gone_unless_denied_witnessed_and_not_routed(
    servers: list[tuple[Answers, Answers]],
    witnessed: bool,  # noqa: FBT001 - drawn
    routed: str | None,
) -> None:
    said = [{GONE: name, WITNESS: witness} for name, witness in servers]
    led = {} if routed is None else {routed: "127.0.0.1:1"}
    gone = asyncio.run(is_gone(*said, witnesses=(WITNESS,) if witnessed else (), **led))
    denied = [witness for name, witness in servers if name is Answers.NXDOMAIN]
    mute = {Answers.SILENCE, Answers.SERVFAIL, Answers.REFUSED, Answers.GARBAGE}
    assert gone == (
        witnessed
        and routed is None
        and bool(denied)
        and set(denied) <= RESOLVES
        and all(name is Answers.NXDOMAIN or name in mute for name, _ in servers)
    )


def target(host: VaultHost) -> KeyTarget:
    key = KeyIdentifier(host, "k", KeyVersion("0123456789abcdef0123456789abcdef"))
    return KeyTarget(IdentityName("platform"), TenantId("11111111-1111-1111-1111-111111111111"), key)


async def test_both_ways_ask_dns_about_a_name_that_does_not_resolve(tokens: Tokens, service_over: ServiceOver) -> None:
    vaults = VaultSettings(allowed_suffixes=(SUFFIX,))
    async with DnsServer.start({WITNESS: Answers.ALIASED}) as server:
        network = NetworkSettings(nameservers=(server.address,))
        names = VaultNames(network, Clock())
        async with Outbound(vaults, network) as outbound:
            service = service_over(outbound.kept, tokens, vaults=vaults, bystanders=Bystanders(names))
            unknown = await service.get(target(GONE))
            assert isinstance(unknown, NoAnswer)
            assert (unknown.reason, server.asked) == (Reason.NAME_NOT_RESOLVED, [])
            names.answered(WITNESS)
            gone = await service.get(target(GONE))
            assert isinstance(gone, Refused)
            assert (gone.kind, gone.evidence.code) == (RefusalKind.VAULT_NOT_FOUND, "NXDOMAIN")


async def test_a_genuine_answer_makes_a_witness_and_a_foreign_one_does_not(
    to_double: Outbound, double: Double, tokens: Tokens, service_over: ServiceOver
) -> None:
    heard = []

    class Names(VaultNames):
        def answered(self, host: VaultHost) -> None:
            heard.append(host)

    service = service_over(
        to_double.kept, tokens, vaults=VaultSettings(), bystanders=Bystanders(Names(NetworkSettings(), Clock()))
    )
    contoso = target(VaultHost("contoso.vault.azure.net"))
    double.answers = [challenge(contoso.tenant), answer(503, None, x_ms_request_id="")]
    await service.get(contoso)
    assert heard == []
    double.answers = [answer(404, {"error": {"code": "KeyNotFound", "message": "no"}})]
    await service.get(contoso)
    assert heard == [contoso.key.host]
