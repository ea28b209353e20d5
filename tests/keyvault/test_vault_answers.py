"""What the service makes of a vault's moods: real TLS, real transport, real managed-identity package, the emulator."""

import asyncio
import time

import pytest
from azure.core.credentials import AccessTokenInfo, TokenRequestOptions
from azure.keyvault.keys._shared import http_challenge_cache
from azure.keyvault.keys.aio import KeyClient
from azure.keyvault.keys.crypto import KeyWrapAlgorithm

from byokd.adapters.keyvault.transport import azure_transport
from byokd.domain.answers import WRAPPING_OPERATIONS, KeyFacts, NoAnswer, Refused
from byokd.domain.identifiers import IdentityName, TenantId
from byokd.domain.vocabulary import Reason, RefusalKind
from byokd.emulator import Dialect, FaultKind, Network
from byokd.emulator.vocabulary import Access
from byokd.ports import KeyTarget
from keyvault.way import KEY, VAULT, Azure

OTHER_TENANT = TenantId("99999999-9999-9999-9999-999999999999")


async def test_a_healthy_key_is_described_wraps_and_unwraps(azure: Azure) -> None:
    target, wrapped = await azure.wrapped(b"k" * 72)

    facts = await azure.service.get(azure.target)
    assert facts == await azure.service.get(target)
    assert (facts.key_type, facts.bits, facts.enabled) == ("RSA", 2048, True)
    assert facts.operations >= WRAPPING_OPERATIONS
    assert abs(facts.created.timestamp() - time.time()) < 60
    assert facts.recovery_level
    assert len(wrapped) == 256
    assert await azure.service.unwrap(target, wrapped) == b"k" * 72
    assert azure.calls(operation="wrapKey", status=200) == 1


async def test_tags_name_accounts_by_their_arm_ids_and_no_other_tag_is_kept(azure: Azure) -> None:
    base = (
        "/subscriptions/0f8fad5b-d9cb-469f-a165-70867728950e/resourceGroups/rg/providers/Microsoft.Media/mediaServices"
    )
    tags = {
        "byokd-account": f"{base}/Contoso".upper(),
        "BYOKD-Account-2": f" {base}/fabrikam ",
        "byokd-account-3": "not an ARM id",
        "byokd-accounts": f"{base}/northwind",
        "owner": f"{base}/adatum",
    }
    assert (await azure.service.get(azure.target)).accounts == frozenset()
    await azure.emulator.control.change_key(VAULT, KEY, tags=tags)
    named = (await azure.service.get(azure.target)).accounts
    assert {account.name for account in named} == {"contoso", "fabrikam"}
    await azure.emulator.control.rotate_key(VAULT, KEY)
    assert (await azure.service.get(azure.target)).accounts == frozenset(), "tags are a version's"


async def test_newest_version_follows_a_rotation_and_the_old_one_still_unwraps(azure: Azure) -> None:
    old, wrapped = await azure.wrapped()
    await azure.emulator.control.rotate_key(VAULT, KEY)

    assert (await azure.newest()).key.version != old.key.version
    assert await azure.service.unwrap(old, wrapped) == b"probe"


async def test_it_agrees_with_the_sdk(azure: Azure) -> None:
    """Wrapped here, unwrapped by the SDK; wrapped (locally) by the SDK, unwrapped here; the same facts."""
    http_challenge_cache.clear()
    target, wrapped = await azure.wrapped()

    class Credential:
        async def get_token_info(self, *scopes: str, options: TokenRequestOptions) -> AccessTokenInfo:
            token = await azure.credentials.token(target.identity, scope=scopes[0], tenant=options["tenant_id"])
            return AccessTokenInfo(token, int(time.time()) + 3600)

        async def close(self) -> None:
            """Nothing."""

    url = f"https://{target.key.host}"
    client = KeyClient(url, Credential(), transport=azure_transport(azure.outbound.kept), retry_total=0)
    crypto = client.get_cryptography_client(KEY, key_version=target.key.version)
    algorithm = KeyWrapAlgorithm.rsa_oaep_256

    assert (await crypto.unwrap_key(algorithm, wrapped)).key == b"probe"
    by_sdk = await crypto.wrap_key(algorithm, b"from the sdk")
    assert await azure.service.unwrap(target, by_sdk.encrypted_key) == b"from the sdk"
    theirs, ours = await client.get_key(KEY), await azure.service.get(azure.target)
    assert (ours.version, ours.enabled, ours.created) == (
        theirs.properties.version,
        theirs.properties.enabled,
        theirs.properties.created_on,
    )
    assert ours.operations == frozenset(theirs.key_operations)
    http_challenge_cache.clear()


async def refusal(answer: object) -> tuple[RefusalKind, int | None, str | None, str | None]:
    assert isinstance(answer, Refused), answer
    assert answer.evidence.request_id
    return answer.kind, answer.evidence.status, answer.evidence.code, answer.evidence.inner_code


async def test_disabled_key(azure: Azure) -> None:
    target, wrapped = await azure.wrapped()
    await azure.emulator.control.disable_key(VAULT, KEY)

    seen = await refusal(await azure.service.unwrap(target, wrapped))
    assert seen == (RefusalKind.KEY_DISABLED, 403, "Forbidden", "KeyDisabled")
    facts = await azure.service.get(target)
    assert isinstance(facts, KeyFacts)
    assert not facts.enabled


async def test_disabled_key_without_an_inner_code_is_access_denied(azure: Azure) -> None:
    target, wrapped = await azure.wrapped()
    await azure.emulator.control.set_dialects({Dialect.FORBIDDEN_WITHOUT_INNER_CODE: True})
    await azure.emulator.control.disable_key(VAULT, KEY)

    seen = await refusal(await azure.service.unwrap(target, wrapped))
    assert seen == (RefusalKind.ACCESS_DENIED, 403, "Forbidden", None)


async def test_expired_key_unwraps_and_does_not_wrap(azure: Azure) -> None:
    target, wrapped = await azure.wrapped()
    gone = int(time.time()) - 10
    await azure.emulator.control.change_key(VAULT, KEY, exp=gone)

    assert await azure.service.unwrap(target, wrapped) == b"probe"
    assert (await refusal(await azure.service.wrap(target, b"x")))[0] is RefusalKind.ACCESS_DENIED
    assert (await azure.service.get(target)).expires.timestamp() == gone


async def test_key_operations_without_unwrap(azure: Azure) -> None:
    target, wrapped = await azure.wrapped()
    await azure.emulator.control.change_key(VAULT, KEY, key_ops=["wrapKey"])

    seen = await refusal(await azure.service.unwrap(target, wrapped))
    assert seen == (RefusalKind.OPERATION_FORBIDDEN, 403, "Forbidden", "KeyOperationForbidden")


async def test_revoked_role(azure: Azure) -> None:
    target, wrapped = await azure.wrapped()
    await azure.emulator.control.revoke(VAULT)

    seen = await refusal(await azure.service.unwrap(target, wrapped))
    assert seen == (RefusalKind.ACCESS_DENIED, 403, "Forbidden", "ForbiddenByRbac")
    assert (await refusal(await azure.service.get(target)))[0] is RefusalKind.ACCESS_DENIED


async def test_removed_access_policy(azure: Azure) -> None:
    await azure.emulator.control.change_vault(VAULT, access=Access.POLICIES)
    await azure.emulator.control.grant(VAULT)
    target, wrapped = await azure.wrapped()
    assert await azure.service.unwrap(target, wrapped) == b"probe"
    await azure.emulator.control.revoke(VAULT, permissions=["unwrapKey"])
    seen = await refusal(await azure.service.unwrap(target, wrapped))
    assert seen == (RefusalKind.ACCESS_DENIED, 403, "Forbidden", "AccessDenied")


@pytest.mark.parametrize(
    ("network", "inner"),
    [(Network.FIREWALL, "ForbiddenByFirewall"), (Network.CONNECTION, "ForbiddenByConnection")],
)
async def test_network_rules(azure: Azure, network: Network, inner: str | None) -> None:
    target, wrapped = await azure.wrapped()
    await azure.emulator.control.change_vault(VAULT, network=network)

    seen = await refusal(await azure.service.unwrap(target, wrapped))
    assert seen == (RefusalKind.NETWORK_BLOCKED, 403, "Forbidden", inner)


async def test_deleted_key(azure: Azure) -> None:
    target, wrapped = await azure.wrapped()
    await azure.emulator.control.delete_key(VAULT, KEY)

    for answer in (await azure.service.unwrap(target, wrapped), await azure.service.get(target)):
        assert await refusal(answer) == (RefusalKind.NOT_FOUND, 404, "KeyNotFound", None)


async def test_garbage_is_a_bad_request(azure: Azure) -> None:
    target = await azure.newest()
    assert (await refusal(await azure.service.unwrap(target, b"w" * 256)))[:2] == (RefusalKind.BAD_REQUEST, 400)


@pytest.mark.parametrize(
    ("fault", "reason", "status"),
    [
        (FaultKind.THROTTLE, Reason.THROTTLED, 429),
        (FaultKind.SERVER_ERROR, Reason.VAULT_ERROR, 500),
        (FaultKind.UNAVAILABLE, Reason.VAULT_ERROR, 503),
        (FaultKind.RESET, Reason.CONNECTION_FAILED, None),
        (FaultKind.TRUNCATED, Reason.UNREADABLE_ANSWER, None),
        (FaultKind.PROXY_PAGE, Reason.FOREIGN_ANSWER, 403),
    ],
)
async def test_bad_luck_is_no_answer_and_nothing_is_sent_twice(
    azure: Azure, fault: FaultKind, reason: Reason, status: int
) -> None:
    target, wrapped = await azure.wrapped()
    await azure.emulator.control.reset_calls()
    await azure.emulator.control.set_fault(VAULT, fault)

    answer = await azure.service.unwrap(target, wrapped)
    assert isinstance(answer, NoAnswer), answer
    assert (answer.reason, answer.evidence.status) == (reason, status)
    assert answer.evidence.operation == "unwrapKey"
    assert azure.calls() == 1

    await azure.emulator.control.clear_faults()
    assert await azure.service.unwrap(target, wrapped) == b"probe"


async def test_bad_luck_with_the_very_first_request(azure: Azure) -> None:
    await azure.emulator.control.set_fault(VAULT, FaultKind.PROXY_PAGE)
    answer = await azure.service.get(azure.target)
    assert isinstance(answer, NoAnswer)
    assert answer.reason is Reason.FOREIGN_ANSWER
    assert azure.calls("managed-identity") == 0


async def test_the_callers_deadline_surfaces_as_timeout_error(azure: Azure) -> None:
    target, wrapped = await azure.wrapped()
    await azure.emulator.control.set_fault(VAULT, FaultKind.HANG)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await azure.service.unwrap(target, wrapped)

    await azure.emulator.control.clear_faults()
    assert await azure.service.unwrap(target, wrapped) == b"probe"


async def test_the_deadline_counts_for_the_token_too(azure: Azure) -> None:
    await azure.emulator.control.set_fault("managed-identity", FaultKind.HANG)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await azure.service.get(azure.target)


async def test_cancellation_is_not_swallowed(azure: Azure) -> None:
    await azure.newest()
    await azure.emulator.control.set_fault(VAULT, FaultKind.HANG)
    asking = asyncio.ensure_future(azure.service.get(azure.target))
    asyncio.get_running_loop().call_later(0.05, asking.cancel)
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_another_value_is_given_as_it_is(azure: Azure) -> None:
    target, wrapped = await azure.wrapped()
    await azure.emulator.control.set_fault(VAULT, FaultKind.WRONG_UNWRAP)
    answer = await azure.service.unwrap(target, wrapped)
    assert isinstance(answer, bytes)
    assert answer != b"probe"


async def test_no_token_leaves_for_another_tenant_than_the_pinned_one(azure: Azure) -> None:
    elsewhere = KeyTarget(azure.target.identity, OTHER_TENANT, azure.target.key)

    for _ in range(2):
        answer = await azure.service.get(elsewhere)
        assert isinstance(answer, Refused)
        assert answer.kind is RefusalKind.WRONG_TENANT

    assert azure.calls("managed-identity") == 0
    assert azure.calls(status=401) == azure.calls() == 2  # both asked the vault itself, neither sent a token


async def test_a_vault_that_moved_to_another_tenant_is_refused_and_taken_back_when_it_returns(azure: Azure) -> None:
    target, wrapped = await azure.wrapped()
    await azure.emulator.control.change_vault(VAULT, tenant=OTHER_TENANT)
    fetched = azure.calls("managed-identity")

    for _ in range(2):
        answer = await azure.service.unwrap(target, wrapped)
        assert isinstance(answer, Refused)
        assert answer.kind is RefusalKind.WRONG_TENANT
    assert azure.calls("managed-identity") == fetched

    await azure.emulator.control.change_vault(VAULT, tenant=target.tenant)
    assert await azure.service.unwrap(target, wrapped) == b"probe"


async def test_a_token_of_another_tenant_is_refused_as_wrong_after_a_fresh_one(azure: Azure) -> None:
    """The vault is in the pinned tenant, but the machine's identity is not."""
    target, wrapped = await azure.wrapped()
    await azure.emulator.control.change_vault(VAULT, tenant=OTHER_TENANT)
    pinned = KeyTarget(target.identity, OTHER_TENANT, target.key)
    azure.clock.ahead = 60
    fetched = azure.calls("managed-identity")

    answer = await azure.service.unwrap(pinned, wrapped)
    assert isinstance(answer, Refused)
    assert (answer.kind, answer.evidence.status) == (RefusalKind.WRONG_TENANT, 401)
    assert azure.calls("managed-identity") == fetched + 1


async def test_claims_are_asked_for_when_the_vault_revokes_tokens(azure: Azure) -> None:
    target, wrapped = await azure.wrapped()
    azure.clock.ahead = 60
    await azure.emulator.control.revoke_tokens(VAULT)

    assert await azure.service.unwrap(target, wrapped) == b"probe"
    assert azure.calls("managed-identity") == 2


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (FaultKind.UNAVAILABLE, "HTTP503"),
        (FaultKind.RESET, "ServiceRequestError"),
        (FaultKind.PROXY_PAGE, "ForeignAnswer"),
    ],
)
async def test_without_a_token_there_is_no_answer(azure: Azure, fault: FaultKind, code: str) -> None:
    await azure.emulator.control.set_fault("managed-identity", fault)
    answer = await azure.service.get(azure.target)
    assert isinstance(answer, NoAnswer)
    assert answer.reason is Reason.TOKEN_UNAVAILABLE
    assert answer.evidence.code == code


async def test_an_unknown_identity_has_no_token(azure: Azure) -> None:
    answer = await azure.service.get(KeyTarget(IdentityName("nobody"), azure.target.tenant, azure.target.key))
    assert (answer.reason, answer.evidence.code) == (Reason.TOKEN_UNAVAILABLE, "IdentityUnknown")


async def test_one_token_serves_many_checks(azure: Azure) -> None:
    answers = await asyncio.gather(*(azure.service.get(azure.target) for _ in range(50)))
    assert all(isinstance(answer, KeyFacts) for answer in answers)
    assert azure.calls("managed-identity") == 1
