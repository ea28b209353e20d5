"""The KeyService port over Key Vault's REST interface for keys."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol, TypeVar

from aiohttp import ClientSession
from azure.keyvault.keys import ApiVersion
from azure.keyvault.keys.crypto import KeyWrapAlgorithm

from byokd.adapters.keyvault.channel import Call, Channel, TokenSource
from byokd.adapters.keyvault.classify import (
    GET,
    UNWRAP,
    WRAP,
    Reply,
    classify_reply,
    foreign,
    no_token,
    unreadable,
    vault_not_found,
)
from byokd.adapters.keyvault.dates import VaultDates
from byokd.adapters.keyvault.names import VaultNames
from byokd.adapters.keyvault.reading import UnreadableError, encode, read_facts, read_value
from byokd.adapters.keyvault.sdk_channel import SdkChannel
from byokd.adapters.keyvault.transport import azure_transport
from byokd.domain.answers import KeyFacts, NoAnswer, Refused
from byokd.domain.identifiers import VaultHost, is_vault_host
from byokd.domain.vocabulary import Reason
from byokd.ports import KeyTarget
from byokd.settings import VaultSettings

_Read = TypeVar("_Read")

_QUERY: Final = f"?api-version={ApiVersion.V7_4.value}"
"""The newest version that all three clouds speak."""

_WRAPPED_BYTES: Final = (256, 384, 512)
"""RSA-OAEP gives as many octets as the modulus has."""


class Exchange(Protocol):
    """A way to ask a vault."""

    async def exchange(self, target: KeyTarget, call: Call) -> Reply | Refused | NoAnswer:
        """Give the vault's answer to an authorized request, of any status, or why there was none."""
        ...


@dataclass(frozen=True, slots=True)
class Bystanders:
    """Who learns from every genuine answer that passes by: which vaults are there, and what time they say it is."""

    names: VaultNames | None = None
    dates: VaultDates | None = None


NOBODY: Final = Bystanders()


def sdk_service(
    session: ClientSession, tokens: TokenSource, *, vaults: VaultSettings, bystanders: Bystanders = NOBODY
) -> "AzureKeyService":
    """Give the service over Microsoft's KeyClient."""
    channel = SdkChannel(azure_transport(session), tokens, remembered=vaults.clients)
    return AzureKeyService(channel, vaults=vaults, bystanders=bystanders)


def lean_service(
    session: ClientSession, tokens: TokenSource, *, vaults: VaultSettings, bystanders: Bystanders = NOBODY
) -> "AzureKeyService":
    """Give the service over the shortcut: for routine looks, at a third of the SDK's CPU."""
    channel = Channel(session, tokens, remembered=vaults.clients)
    return AzureKeyService(channel, vaults=vaults, bystanders=bystanders)


class AzureKeyService:
    """Keys in customers' vaults; see the port for what it promises.

    Operations are always the vault's own (the SDK's `wrap_key` is local and proves nothing). Whether connections are
    kept or new is the session's matter; whether the SDK or the shortcut asks, the channel's. Without
    names among the bystanders no vault is ever found to be gone.
    """

    def __init__(self, channel: Exchange, *, vaults: VaultSettings, bystanders: Bystanders = NOBODY) -> None:
        self._channel = channel
        self._suffixes = vaults.allowed_suffixes
        self._names, self._dates = bystanders.names, bystanders.dates

    async def get(self, target: KeyTarget) -> KeyFacts | Refused | NoAnswer:
        """Give the facts of the named version, or of the newest one."""
        call = Call(GET, f"/keys/{target.key.name}/{target.key.version or ''}{_QUERY}")
        return await self._ask(target, call, lambda document: read_facts(document, asked=target.key))

    async def wrap(self, target: KeyTarget, plaintext: bytes) -> bytes | Refused | NoAnswer:
        """Wrap at most 190 bytes with the named version, RSA-OAEP-256, in the vault."""

        def read(document: object) -> bytes:
            wrapped = read_value(document, asked=target.key)
            if len(wrapped) not in _WRAPPED_BYTES:
                raise UnreadableError("value")
            return wrapped

        return await self._ask(target, _operation(WRAP, target, plaintext), read)

    async def unwrap(self, target: KeyTarget, wrapped: bytes) -> bytes | Refused | NoAnswer:
        """Unwrap with the named version, RSA-OAEP-256."""
        return await self._ask(
            target,
            _operation(UNWRAP, target, wrapped),
            lambda document: read_value(document, asked=target.key),
        )

    async def _ask(self, target: KeyTarget, call: Call, read: Callable[[object], _Read]) -> _Read | Refused | NoAnswer:
        # Identifiers were checked when they were read; the setting may have changed since.
        if not is_vault_host(target.key.host, allowed_suffixes=self._suffixes):
            return no_token(call.operation, "HostNotAllowed")
        reply = await self._channel.exchange(target, call)
        if isinstance(reply, Refused | NoAnswer):
            return await self._unless_gone(target, call, reply)
        if reply.genuine:
            self._pass_on(target.key.host, reply)
        if reply.status != HTTPStatus.OK:
            return classify_reply(reply)
        if not reply.genuine:
            return foreign(reply)
        try:
            return read(reply.document)
        except UnreadableError as error:
            return unreadable(reply, str(error))

    async def _unless_gone(self, target: KeyTarget, call: Call, answer: Refused | NoAnswer) -> Refused | NoAnswer:
        """Ask further why a name did not resolve."""
        unresolved = isinstance(answer, NoAnswer) and answer.reason is Reason.NAME_NOT_RESOLVED
        if unresolved and self._names is not None and await self._names.is_gone(target.key.host):
            return vault_not_found(call.operation)
        return answer

    def _pass_on(self, host: VaultHost, reply: Reply) -> None:
        if self._names is not None:
            self._names.answered(host)
        if self._dates is not None:
            self._dates.answered(host, reply.headers.get("Date"))


def _operation(operation: str, target: KeyTarget, value: bytes) -> Call:
    if target.key.version is None:
        raise ValueError(f"{operation} needs a version")
    content = json.dumps({"alg": KeyWrapAlgorithm.rsa_oaep_256.value, "value": encode(value)}).encode()
    # Lower case, as the SDK sends it.
    return Call(operation, f"/keys/{target.key.name}/{target.key.version}/{operation.lower()}{_QUERY}", content)
