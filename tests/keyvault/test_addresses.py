"""Where names may lead: what is checked is what is connected to."""

import asyncio
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byokd.adapters.keyvault.addresses import MOST_ADDRESSES, AddressRefusedError, MappedResolver, Reach, may_reach
from byokd.adapters.keyvault.lookup_threads import LookupThreads
from byokd.adapters.keyvault.service import AzureKeyService
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.answers import NoAnswer
from byokd.domain.vocabulary import Reason
from byokd.settings import NetworkSettings, VaultSettings
from keyvault.double import Double, Tokens, challenge
from keyvault.test_hostile_vaults import TENANT, target
from keyvault.way import ServiceOver

NAME = "contoso.vault.azure.net"
Answers = Callable[..., list[tuple[Any, ...]]]


def addresses(*found: str) -> Answers:
    """What the system would say of every name."""

    def say(_: str, port: int, **__: object) -> list[tuple[Any, ...]]:
        kinds = {True: socket.AF_INET6, False: socket.AF_INET}
        return [
            (kinds[":" in one], socket.SOCK_STREAM, 6, "", (one, port, 0, 0)[: 4 if ":" in one else 2]) for one in found
        ]

    return say


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("20.50.1.2", True, True),
        ("2603:1030::5", True, True),
        ("10.0.0.4", False, True),
        ("172.16.9.9", False, True),
        ("192.168.1.1", False, True),
        ("100.64.3.2", False, True),
        ("fd00::4", False, True),
        ("::ffff:10.0.0.4", False, True),
        ("64:ff9b::a00:4", False, True),
        ("64:ff9b::1432:102", True, True),
        ("2002:a00:4::1", False, True),
        ("127.0.0.1", False, False),
        ("127.8.8.8", False, False),
        ("::1", False, False),
        ("::ffff:127.0.0.1", False, False),
        ("64:ff9b::7f00:1", False, False),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("168.63.129.16", False, False),
        ("fe80::1", False, False),
        ("fe80::1%2", False, False),
        ("0.0.0.0", False, False),  # noqa: S104 - nothing binds to it
        ("::", False, False),
        ("224.0.0.1", False, False),
        ("ff02::1", False, False),
        ("255.255.255.255", False, False),
        ("240.1.1.1", False, False),
    ],
)
def test_what_may_be_reached(address: str, public: bool, private: bool) -> None:  # noqa: FBT001
    assert may_reach(address, Reach.PUBLIC) is public
    assert may_reach(address, Reach.PRIVATE) is private
    assert may_reach(address, Reach.ANY)


@given(st.ip_addresses().map(str))
def test_a_smaller_reach_allows_nothing_more(address: str) -> None:
    if may_reach(address, Reach.PUBLIC):
        assert may_reach(address, Reach.PRIVATE)


@pytest.mark.parametrize(
    ("found", "private"), [("127.0.0.1", "allow"), ("127.0.0.1", "refuse"), ("10.255.255.1", "refuse")]
)
async def test_a_vaults_name_that_leads_where_it_may_not_is_not_connected_to(
    double: Double, tokens: Tokens, service_over: ServiceOver, monkeypatch: pytest.MonkeyPatch, found: str, private: str
) -> None:
    """The server behind the refused address is there, and has the right certificate."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, _, **more: addresses(found)(host, double.port, **more))
    network = NetworkSettings(ca_file=double.ca_file, private_addresses=private)
    async with Outbound(VaultSettings(), network) as outbound:
        for session in (outbound.kept, outbound.fresh):
            given = await service_over(session, tokens, vaults=VaultSettings()).get(target())
            assert isinstance(given, NoAnswer)
            assert (given.reason, given.evidence.code) == (Reason.CONNECTION_FAILED, "AddressRefusedError")
    assert double.opened == 0


async def test_the_operators_own_routes_may_lead_anywhere(doubtful: AzureKeyService, double: Double) -> None:
    double.answers = [challenge(TENANT)]
    await doubtful.get(target())
    assert double.opened == 1, "to 127.0.0.1, by connect_to"


async def test_a_name_that_changes_after_it_was_looked_at_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer is the one that is checked and connected to; there is no second look-up in between."""
    said = ["20.50.1.2", "127.0.0.1"]

    def look_up(host: str, port: int, **more: object) -> list[tuple[Any, ...]]:
        return addresses(said.pop(0))(host, port, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolver = MappedResolver({}, reach=Reach.PRIVATE)
    (first,) = await resolver.resolve(NAME, 443)
    assert first["host"] == "20.50.1.2"
    assert first["flags"] & socket.AI_NUMERICHOST
    with pytest.raises(AddressRefusedError):
        await resolver.resolve(NAME, 443)
    await resolver.close()


async def test_of_many_addresses_the_allowed_ones_are_tried_and_not_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = addresses("127.0.0.1", *(f"20.50.1.{number}" for number in range(200)))
    monkeypatch.setattr(socket, "getaddrinfo", many)
    resolver = MappedResolver({}, reach=Reach.PRIVATE)
    assert [one["host"] for one in await resolver.resolve(NAME, 443)] == [f"20.50.1.{n}" for n in range(MOST_ADDRESSES)]
    await resolver.close()


async def test_names_that_hang_keep_no_other_waiting_and_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging, asked = threading.Event(), []

    def look_up(host: str, port: int, **more: object) -> list[tuple[Any, ...]]:
        asked.append(host)
        if host.startswith("slow"):
            hanging.wait(30)
        return addresses("20.50.1.2")(host, port, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolver = MappedResolver({}, reach=Reach.PRIVATE)

    async def impatient(number: int) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await resolver.resolve(f"slow{number}.vault.azure.net", 443)

    try:
        await asyncio.gather(*(impatient(number % 20) for number in range(200)))
        async with asyncio.timeout(5):
            assert await resolver.resolve(NAME, 443)
            # Nor do they take the threads that others of this process share.
            assert await asyncio.to_thread(lambda: True)
        assert len(asked) == 20 + 1
    finally:
        hanging.set()
        await resolver.close()


async def test_a_lookup_that_fails_when_nobody_waits_any_more_is_nobodys_trouble(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hanging = threading.Event()

    def look_up(*_: object, **__: object) -> list[tuple[Any, ...]]:
        hanging.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "no")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolver = MappedResolver({}, reach=Reach.PRIVATE)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await resolver.resolve(NAME, 443)
    (asked,) = resolver._asked.values()
    hanging.set()
    with pytest.raises(socket.gaierror):
        await asked
    assert not resolver._asked
    await resolver.close()
    assert not caplog.records


ENDS = """
import asyncio, socket, threading
from byokd.adapters.keyvault.addresses import MappedResolver

def hang(*_, **__):
    print("asked", flush=True)
    threading.Event().wait()

async def main():
    resolver = MappedResolver({})
    try:
        async with asyncio.timeout(0.5):
            await resolver.resolve("contoso.vault.azure.net", 443)
    except TimeoutError:
        await resolver.close()

socket.getaddrinfo = hang
asyncio.run(main())
print("stopped", flush=True)
"""


async def test_a_name_that_hangs_does_not_keep_the_process_from_ending() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ENDS, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(30):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert (process.returncode, said.split()) == (0, [b"asked", b"stopped"])


async def test_lookups_beyond_the_threads_wait_in_line_and_are_given_up_at_the_end() -> None:
    threads, free, begun = LookupThreads(3), threading.Event(), []

    def look_up(number: int) -> int:
        begun.append(number)
        free.wait(30)
        return number

    asked = [threads.submit(look_up, number) for number in range(8)]
    failing = threads.submit(int, "no number")
    free.set()
    assert [one.result(30) for one in asked] == list(range(8))
    with pytest.raises(ValueError, match="invalid literal"):
        failing.result(30)
    free.clear()
    asked = [threads.submit(look_up, number) for number in range(8)]
    while len(begun) < 8 + 3:  # noqa: ASYNC110 - threads tell no event loop
        await asyncio.sleep(0)
    threads.shutdown(cancel_futures=True)
    free.set()
    assert [one.cancelled() for one in asked].count(True) == 5
    assert len(begun) == 8 + 3, "three at once, no more"
    with pytest.raises(RuntimeError):
        threads.submit(int)
