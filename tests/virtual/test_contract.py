"""One suite for the simulated vaults and for the real client over the emulator: the same states, the same answers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from byokd.adapters.identity.credentials import Credentials
from byokd.adapters.keyvault.service import sdk_service
from byokd.adapters.keyvault.transport import Outbound
from byokd.domain.answers import KeyFacts, NoAnswer, Refused
from byokd.domain.identifiers import KeyIdentifier, KeyVersion, TenantId, VaultHost
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.emulator import Emulator, FaultKind, KeyMaker, Network
from byokd.ports import KeyService, KeyTarget
from byokd.runtime.clock import SystemClock
from byokd.settings import IdentitySettings, NetworkSettings, VaultSettings
from virtual.vaults import IDENTITY, TENANT, Mishap, SimulatedVaults
from virtual.world import account_id

NAME, KEY = "contoso", "media-key"
ACCOUNT = account_id(1)
OTHER_TENANT = TenantId("99999999-9999-9999-9999-999999999999")
SHARED_KEYS = KeyMaker(pool=4)


class Simulated:
    """The customer's hand on a simulated vault."""

    def __init__(self) -> None:
        vaults = SimulatedVaults(SystemClock())
        self.service: KeyService = vaults.kept
        self.vault = vaults.make(NAME)
        self.vault.latency = 0.0
        self.vault.create(KEY)
        self.tenant = TENANT

    async def change(self, what: str) -> None:
        vault, now = self.vault, time.time()
        changes: dict[str, Callable[[], object]] = {
            "disable": lambda: vault.disable(KEY),
            "enable": lambda: vault.enable(KEY),
            "delete": lambda: vault.delete(KEY),
            "recover": lambda: vault.recover(KEY),
            "rotate": lambda: vault.rotate(KEY),
            "revoke": vault.revoke,
            "revoke get": lambda: vault.revoke("get"),
            "revoke wrap": lambda: vault.revoke("wrapKey"),
            "grant": vault.grant,
            "no unwrap": lambda: vault.change(KEY, operations=frozenset({"wrapKey"})),
            "expire": lambda: vault.change(KEY, expires=datetime.fromtimestamp(now - 100, UTC)),
            "not yet": lambda: vault.change(KEY, not_before=datetime.fromtimestamp(now + 1000, UTC)),
            "block": vault.block,
            "move": lambda: vault.move(OTHER_TENANT),
            "throttle": lambda: vault.strike(Reason.THROTTLED),
            "fail": lambda: vault.strike(Reason.VAULT_ERROR),
            "reset": lambda: vault.strike(Reason.CONNECTION_FAILED),
            "foreign": lambda: vault.strike(Reason.FOREIGN_ANSWER),
            "hang": lambda: vault.strike(Mishap.HANG),
            "tag": lambda: vault.tag(ACCOUNT, name=KEY),
            "wrong": lambda: vault.strike(Mishap.WRONG_VALUE, "unwrapKey"),
            "stale": lambda: vault.strike(Mishap.STALE, "get"),
        }
        changes[what]()


class Emulated:
    """The customer's hand on a vault of the emulator."""

    def __init__(self, emulator: Emulator, service: KeyService, tenant: TenantId) -> None:
        self.emulator = emulator
        self.service = service
        self.tenant = tenant

    async def change(self, what: str) -> None:
        control, now = self.emulator.control, int(time.time())
        changes: dict[str, Any] = {
            "disable": lambda: control.disable_key(NAME, KEY),
            "enable": lambda: control.enable_key(NAME, KEY),
            "delete": lambda: control.delete_key(NAME, KEY),
            "recover": lambda: control.recover_key(NAME, KEY),
            "rotate": lambda: control.rotate_key(NAME, KEY),
            "revoke": lambda: control.revoke(NAME),
            "revoke get": lambda: control.revoke(NAME, permissions=["get"]),
            "revoke wrap": lambda: control.revoke(NAME, permissions=["wrapKey"]),
            "grant": lambda: control.grant(NAME),
            "no unwrap": lambda: control.change_key(NAME, KEY, key_ops=["wrapKey"]),
            "expire": lambda: control.change_key(NAME, KEY, exp=now - 100),
            "not yet": lambda: control.change_key(NAME, KEY, nbf=now + 1000),
            "block": lambda: control.change_vault(NAME, network=Network.FIREWALL),
            "move": lambda: control.change_vault(NAME, tenant=OTHER_TENANT),
            "throttle": lambda: control.set_fault(NAME, FaultKind.THROTTLE),
            "fail": lambda: control.set_fault(NAME, FaultKind.UNAVAILABLE),
            "reset": lambda: control.set_fault(NAME, FaultKind.RESET),
            "foreign": lambda: control.set_fault(NAME, FaultKind.PROXY_PAGE),
            "hang": lambda: control.set_fault(NAME, FaultKind.HANG),
            "tag": lambda: control.change_key(NAME, KEY, tags={"byokd-account": str(ACCOUNT)}),
            "wrong": lambda: control.set_fault(NAME, FaultKind.WRONG_UNWRAP),
            "stale": lambda: control.set_fault(NAME, FaultKind.STALE_READ),
        }
        await changes[what]()


@asynccontextmanager
async def emulated(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulated]:
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    async with AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(Emulator.start(state_dir=directory, keys=SHARED_KEYS))
        for name, value in emulator.imds_environment().items():
            monkeypatch.setenv(name, value)
        vault = await emulator.control.create_vault(NAME)
        await emulator.control.create_key(NAME, KEY)
        await emulator.control.grant(NAME)
        network = NetworkSettings(ca_file=emulator.ca_file, connect_to=emulator.connect_to)
        settings = VaultSettings(connections=4)
        outbound = await stack.enter_async_context(Outbound(settings, network))
        credentials = Credentials({IDENTITY: IdentitySettings()}, outbound.tokens, clock=SystemClock())
        stack.push_async_callback(credentials.close)
        service = sdk_service(outbound.kept, credentials, vaults=settings)
        yield Emulated(emulator, service, TenantId(vault["tenant"]))


@pytest.fixture(params=["simulated", "emulated"])
async def side(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Simulated | Emulated]:
    if request.param == "simulated":
        yield Simulated()
        return
    async with emulated(tmp_path / "emulator", monkeypatch) as made:
        yield made


def at(side: Simulated | Emulated, version: KeyVersion | None = None) -> KeyTarget:
    return KeyTarget(IDENTITY, side.tenant, KeyIdentifier(VaultHost(f"{NAME}.vault.azure.net"), KEY, version))


def shown(answer: object) -> object:
    """What an answer says, without what differs from one vault to another."""
    match answer:
        case Refused():
            return answer.kind
        case NoAnswer():
            return answer.reason
        case KeyFacts():
            return "facts" if answer.enabled else "disabled"
        case bytes():
            return "bytes"
    raise AssertionError(answer)


async def newest(side: Simulated | Emulated) -> KeyFacts:
    facts = await side.service.get(at(side))
    assert isinstance(facts, KeyFacts), facts
    return facts


KINDS = RefusalKind
STATES: dict[str, tuple[list[str], object, object, object]] = {
    "healthy": ([], "facts", "bytes", "bytes"),
    "disabled": (["disable"], "disabled", "bytes", KINDS.KEY_DISABLED),
    "enabled again": (["disable", "enable"], "facts", "bytes", "bytes"),
    "deleted": (["delete"], KINDS.NOT_FOUND, KINDS.NOT_FOUND, KINDS.NOT_FOUND),
    "recovered": (["delete", "recover"], "facts", "bytes", "bytes"),
    "rotated": (["rotate"], "facts", "bytes", "bytes"),
    "revoked": (["revoke"], KINDS.ACCESS_DENIED, KINDS.ACCESS_DENIED, KINDS.ACCESS_DENIED),
    "granted again": (["revoke", "grant"], "facts", "bytes", "bytes"),
    "no get": (["revoke get"], KINDS.ACCESS_DENIED, "bytes", "bytes"),
    "no wrap": (["revoke wrap"], "facts", KINDS.ACCESS_DENIED, "bytes"),
    "no unwrap": (["no unwrap"], "facts", "bytes", KINDS.OPERATION_FORBIDDEN),
    "expired": (["expire"], "facts", KINDS.ACCESS_DENIED, "bytes"),
    "not yet valid": (["not yet"], "facts", KINDS.ACCESS_DENIED, "bytes"),
    "blocked": (["block"], KINDS.NETWORK_BLOCKED, KINDS.NETWORK_BLOCKED, KINDS.NETWORK_BLOCKED),
    "moved": (["move"], KINDS.WRONG_TENANT, KINDS.WRONG_TENANT, KINDS.WRONG_TENANT),
    "blocked and revoked": (["block", "revoke"], *[KINDS.NETWORK_BLOCKED] * 3),
    "moved and blocked": (["move", "block"], *[KINDS.WRONG_TENANT] * 3),
    "revoked and deleted": (["revoke", "delete"], *[KINDS.ACCESS_DENIED] * 3),
    "disabled and expired": (["disable", "expire"], "disabled", KINDS.ACCESS_DENIED, KINDS.KEY_DISABLED),
    "throttled": (["throttle"], *[Reason.THROTTLED] * 3),
    "failing": (["fail"], *[Reason.VAULT_ERROR] * 3),
    "cut off": (["reset"], *[Reason.CONNECTION_FAILED] * 3),
    "behind a proxy": (["foreign"], *[Reason.FOREIGN_ANSWER] * 3),
    "throttled and revoked": (["revoke", "throttle"], *[Reason.THROTTLED] * 3),
}


@pytest.mark.parametrize("state", STATES)
async def test_same_states_get_the_same_answers(side: Simulated | Emulated, state: str) -> None:
    changes, get, wrap, unwrap = STATES[state]
    target = at(side, (await newest(side)).version)
    wrapped = await side.service.wrap(target, b"p" * 32)
    assert isinstance(wrapped, bytes)
    for change in changes:
        await side.change(change)

    assert shown(await side.service.get(at(side))) == get
    assert shown(await side.service.wrap(target, b"q" * 32)) == wrap
    opened = await side.service.unwrap(target, wrapped)
    assert shown(opened) == unwrap
    assert opened == b"p" * 32 or not isinstance(opened, bytes)


async def test_newest_version_and_whole_seconds(side: Simulated | Emulated) -> None:
    first = await newest(side)
    await side.change("rotate")
    second = await newest(side)
    assert first.version != second.version
    for facts in (first, second):
        assert facts.created is not None
        assert facts.created.microsecond == 0
        assert (facts.key_type, facts.bits) == ("RSA", 2048)
        assert facts.operations >= {"wrapKey", "unwrapKey"}
    assert shown(await side.service.get(at(side, first.version))) == "facts"
    await side.change("stale")
    assert (await newest(side)).version == first.version


async def test_tags_are_of_the_version_that_was_tagged(side: Simulated | Emulated) -> None:
    first = (await newest(side)).version
    await side.change("tag")
    assert (await newest(side)).accounts == {ACCOUNT}
    await side.change("rotate")
    assert (await newest(side)).accounts == frozenset()
    of_first = await side.service.get(at(side, first))
    assert isinstance(of_first, KeyFacts)
    assert of_first.accounts == {ACCOUNT}


async def test_what_another_version_wrapped_is_a_bad_request(side: Simulated | Emulated) -> None:
    first = (await newest(side)).version
    wrapped = await side.service.wrap(at(side, first), b"p")
    await side.change("rotate")
    answer = await side.service.unwrap(at(side, (await newest(side)).version), wrapped)
    assert shown(answer) == RefusalKind.BAD_REQUEST
    assert shown(await side.service.unwrap(at(side, first), b"w" * 256)) == RefusalKind.BAD_REQUEST


async def test_unknown_version_is_not_found(side: Simulated | Emulated) -> None:
    unknown = at(side, KeyVersion("0" * 32))
    assert shown(await side.service.get(unknown)) == RefusalKind.NOT_FOUND
    assert shown(await side.service.unwrap(unknown, b"w" * 256)) == RefusalKind.NOT_FOUND


async def test_wrong_value_is_given_as_it_is(side: Simulated | Emulated) -> None:
    target = at(side, (await newest(side)).version)
    wrapped = await side.service.wrap(target, b"p" * 32)
    await side.change("wrong")
    answer = await side.service.unwrap(target, wrapped)
    assert isinstance(answer, bytes)
    assert answer != b"p" * 32


async def test_hanging_vault_is_ended_by_the_callers_deadline(side: Simulated | Emulated) -> None:
    await newest(side)
    await side.change("hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await side.service.get(at(side))
