"""What one check costs this process in CPU, against the SDK's calls and against bare aiohttp.

Three contenders take turns in one process, over kept connections, against one emulator in a process of its own:

* byokd: `Checker.check` of a healthy watch, with token, classification, decision, metrics, and the store behind it;
* the SDK: `KeyClient.get_key` and `CryptographyClient.unwrap_key` over one shared transport, default policies;
* bare aiohttp: one GET and one POST with a token at hand, JSON read, nothing else.
"""

import asyncio
import base64
import json
import os
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity.aio import ManagedIdentityCredential
from azure.keyvault.keys.aio import KeyClient
from azure.keyvault.keys.crypto import KeyWrapAlgorithm
from azure.keyvault.keys.crypto.aio import CryptographyClient

from byokd.adapters.keyvault.addresses import MappedResolver
from byokd.demo.stage import make_service_keys
from byokd.domain.accounts import AccountSpec, CustomerKey
from byokd.domain.identifiers import AccountId, IdentityName, KeyIdentifier, KeyVersion, TenantId
from byokd.domain.verdict import Watch
from byokd.domain.vocabulary import DetectedBy, Outcome
from byokd.emulator.client import ControlClient
from byokd.ports import KeyTarget
from byokd.runtime.wiring import wire
from byokd.settings import Settings

ROUNDS = 7
CHECKS = 200
ACCOUNT = AccountId("3f0c2f8e-0000-4000-8000-00000000beef", "bench", "bench")
KEY = KeyIdentifier.parse("https://bench-keys.vault.azure.net/keys/media", allowed_suffixes=("vault.azure.net",))

Contender = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Azure:
    """The emulator's addresses."""

    tls: str
    control: str
    ca: Path


async def check_cpu() -> dict[str, dict[str, object]]:
    """Measure; give the two figures."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="byokd-bench-")))
        azure = await stack.enter_async_context(emulated_azure(directory))
        os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = azure.control
        tenant, version = await make_customer(azure)
        contenders = {
            "byokd": await _byokd(stack, azure, directory, tenant),
            "sdk": await _sdk(stack, azure, KEY.at(version)),
            "aiohttp": await _bare(stack, azure, KEY.at(version)),
        }
        for contender in contenders.values():
            await _cpu(contender, count=20)
        rounds = [
            {name: await _cpu(contender, count=CHECKS) for name, contender in contenders.items()} for _ in range(ROUNDS)
        ]
    for name in contenders:
        print(f"  {name:<8} {statistics.median(one[name] for one in rounds) * 1000:.3f} ms CPU per check")
    return {
        "check_cpu_vs_sdk": _figure(rounds, "sdk", "get_key + unwrap_key of the SDK over one shared transport"),
        "check_cpu_vs_aiohttp": _figure(rounds, "aiohttp", "bare aiohttp, the same two requests"),
    }


async def _cpu(contender: Contender, *, count: int) -> float:
    """Give the CPU seconds of this process per call."""
    before = time.process_time()
    for _ in range(count):
        await contender()
    return (time.process_time() - before) / count


def _figure(rounds: list[dict[str, float]], against: str, words: str) -> dict[str, object]:
    ratios = [one["byokd"] / one[against] for one in rounds]
    return {
        "value": statistics.median(ratios),
        "unit": "CPU ratio",
        "against": words,
        "runs": len(ratios),
        "min": min(ratios),
        "max": max(ratios),
    }


@asynccontextmanager
async def emulated_azure(directory: Path) -> AsyncIterator[Azure]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "byokd", "emulator", "run", "--json", "--state-dir", str(directory / "azure"),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        ready = json.loads(await process.stdout.readline() if process.stdout else b"")
        yield Azure(ready["tls"], ready["control"], Path(ready["ca"]))
    finally:
        process.terminate()
        await process.wait()


async def make_customer(azure: Azure) -> tuple[TenantId, KeyVersion]:
    async with ControlClient(azure.control) as control:
        vault = await control.create_vault("bench-keys", purge_protection=True)
        key = await control.create_key("bench-keys", "media", size=2048)
        await control.grant("bench-keys", permissions=["get", "list", "wrapKey", "unwrapKey"])
        return TenantId(vault["tenant"]), KeyVersion(key["newest"])


async def _byokd(stack: AsyncExitStack, azure: Azure, directory: Path, tenant: TenantId) -> Contender:
    make_service_keys(directory / "keys")
    settings = Settings.model_validate(
        {
            "store": {"url": f"sqlite:///{directory}/byokd.db"},
            "network": {"ca_file": str(azure.ca), "connect_to": {"*.vault.azure.net": azure.tls}},
            "identities": {"bench": {}},
            "service_keys": {"directory": str(directory / "keys")},
        }
    )
    wired = await wire(settings, stack)
    await wired.store.prepare()
    await wired.store.claim_vaults("bench")
    identity = IdentityName("bench")
    spec = AccountSpec(ACCOUNT, tenant, "westeurope", CustomerKey(identity, KEY))
    await wired.service.registrar.apply(spec)
    watch = await wired.store.find_watch(KeyTarget(identity, tenant, KEY))
    if watch is None:
        raise AssertionError("the account was registered a moment ago")
    subject: Watch = watch

    async def check() -> None:
        checked = await wired.service.checker.check(subject, detected_by=DetectedBy.POLL)
        observations = checked.decision.observations.values()
        if any(observation.outcome is not Outcome.USABLE for observation in observations):
            raise AssertionError("the key is usable")

    return check


async def _sdk(stack: AsyncExitStack, azure: Azure, key: KeyIdentifier) -> Contender:
    session = await stack.enter_async_context(_session(azure))
    transport = AioHttpTransport(session=session, session_owner=False)
    credential = await stack.enter_async_context(ManagedIdentityCredential())
    client = KeyClient(f"https://{key.host}", credential, transport=transport)
    newest = await client.get_key(key.name)
    crypto = CryptographyClient(newest, credential, transport=transport)
    wrapped = (await crypto.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"p" * 32)).encrypted_key

    async def check() -> None:
        await client.get_key(key.name)
        await crypto.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped)

    return check


async def _bare(stack: AsyncExitStack, azure: Azure, key: KeyIdentifier) -> Contender:
    session = await stack.enter_async_context(_session(azure))
    credential = await stack.enter_async_context(ManagedIdentityCredential())
    token = (await credential.get_token("https://vault.azure.net/.default")).token
    headers = {"Authorization": f"Bearer {token}"}
    base, query = f"https://{key.host}/keys/{key.name}", "?api-version=7.4"

    async def post(operation: str, value: str) -> str:
        body = {"alg": "RSA-OAEP-256", "value": value}
        async with session.post(f"{base}/{key.version}/{operation}{query}", json=body, headers=headers) as response:
            response.raise_for_status()
            return str((await response.json())["value"])

    wrapped = await post("wrapkey", base64.urlsafe_b64encode(b"p" * 32).decode().rstrip("="))

    async def check() -> None:
        async with session.get(f"{base}{query}", headers=headers) as response:
            response.raise_for_status()
            await response.json()
        await post("unwrapkey", wrapped)

    return check


@asynccontextmanager
async def _session(azure: Azure) -> AsyncIterator[aiohttp.ClientSession]:
    context = ssl.create_default_context(cafile=str(azure.ca))
    resolver = MappedResolver({"*.vault.azure.net": azure.tls})
    connector = aiohttp.TCPConnector(resolver=resolver, ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session
