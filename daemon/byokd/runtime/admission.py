"""Takes customers' keys for accounts: whose are they, are they fit, and can this identity use them, proved now."""

from dataclasses import dataclass

from byokd.domain.accounts import AccountSpec
from byokd.domain.admission import Candidate, Consent, Objection, elsewhere, objection, unfit, ungranted
from byokd.domain.answers import KeyFacts, NoAnswer, Refused
from byokd.domain.identifiers import KeyIdentifier
from byokd.domain.payload import Payload
from byokd.domain.properties import VaultProperties
from byokd.domain.remedies import Case
from byokd.domain.verdict import Watch, WatchWarning
from byokd.domain.vocabulary import RefusalKind
from byokd.domain.warn import of_purging
from byokd.ports import Clock, KeyService, KeyTarget, Randomness, Store, VaultRegistry
from byokd.records import Claim, KeyPlacement, NewVersion
from byokd.runtime.account_keys import AccountKeys, VaultRefusedError
from byokd.runtime.rounds import PROBE_BYTES, Round, prove
from byokd.runtime.silences import AccountRefusedError, GrantMissingError, Silences
from byokd.settings import IdentitySettings, Settings

GET, WRAP, UNWRAP = "get", "wrapKey", "unwrapKey"


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an account key goes, and what is amiss there."""

    placement: KeyPlacement
    warnings: tuple[WatchWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class _Destination:
    """A version to wrap with; `first` proves it when the watch does not exist yet."""

    target: KeyTarget
    first: NewVersion | None
    warnings: tuple[WatchWarning, ...]


class Admission:
    """Decides whether an account may come to a key, and wraps its account key there. Nothing is written."""

    def __init__(
        self,
        store: Store,
        keys: KeyService,
        account_keys: AccountKeys,
        *,
        trial_keys: KeyService,
        registry: VaultRegistry,
        clock: Clock,
        randomness: Randomness,
        settings: Settings,
    ) -> None:
        """Take the collaborators; of what `trial_keys` are refused nobody is told: that is what is to be found out."""
        self._store = store
        self._keys = keys
        self._account_keys = account_keys
        self._trial_keys = trial_keys
        self._registry = registry
        self._clock = clock
        self._randomness = randomness
        self._deadline = settings.registration.deadline
        self._settings = settings

    def claim(self, spec: AccountSpec) -> Claim:
        """Give how the account is to use its identity."""
        return Claim.SHARED if self._identity(spec).shared else Claim.EXCLUSIVE

    async def refuse_taken(self, spec: AccountSpec) -> None:
        """Refuse an identity that serves another customer, before anything is asked with it.

        The transaction looks again.

        Raises:
            AccountRefusedError: it does.
        """
        if spec.identity is not None and not await self._store.may_claim(spec, self.claim(spec)):
            raise taken(spec)

    async def refuse_elsewhere(self, spec: AccountSpec) -> None:
        """Refuse a location that is not that of the vault of the account's key, as far as ARM tells it.

        Raises:
            AccountRefusedError: it is another one.
        """
        if spec.customer_key is None:
            return
        target = KeyTarget(spec.customer_key.identity, spec.tenant, spec.customer_key.key)
        if (why := elsewhere(spec.location, await self._vault(spec, target))) is not None:
            raise _refused(why)

    async def place(self, spec: AccountSpec, payload: Payload, silences: Silences, consent: Consent) -> Placed:
        """Wrap an account key where the account is to be, after get, wrap and unwrap there were proved.

        Raises:
            AccountRefusedError: the key is not taken; GrantMissingError, for want of a permission.
            VaultRefusedError: the vault did not do its part.
        """
        if spec.customer_key is None:
            return Placed(KeyPlacement(None, await self._account_keys.place(payload, spec.id, None), None))
        wanted = KeyTarget(spec.customer_key.identity, spec.tenant, spec.customer_key.key)
        with silences.heeded(wanted):
            destination = await self._destination(spec, wanted, consent)
            try:
                sealed = await self._account_keys.place(payload, spec.id, destination.target)
            except VaultRefusedError as error:
                if not _is_denied(error.answer):
                    raise
                raise await self.lacking(destination.target, _operation(error.answer)) from None
        return Placed(KeyPlacement(destination.target.key, sealed, destination.first), destination.warnings)

    async def lacking(self, target: KeyTarget, *denied: str) -> AccountRefusedError:
        """Try the permissions one by one, and say which are missing.

        Args:
            target: at a version, where one is known.
            denied: operations that were refused a moment ago.
        """
        calls = Round(self._trial_keys, self._clock, deadline=self._deadline)
        missing, untold = set(denied), set[str]()
        facts = await calls.get(target)
        if _is_denied(facts):
            missing.add(GET)
        if isinstance(facts, KeyFacts) and (why := unfit(facts, self._clock.now())) is not None:
            return _refused(why)  # a version beyond its dates may refuse to wrap in the same words
        if target.key.version is None:
            untold = {WRAP, UNWRAP} - missing
        else:
            wrapped = await calls.wrap(target, self._randomness.bytes(PROBE_BYTES))
            size = facts.bits // 8 if isinstance(facts, KeyFacts) else 256
            # What nobody wrapped is a bad request to who may unwrap, and refused to who may not.
            sample = wrapped if isinstance(wrapped, bytes) else self._randomness.bytes(size)
            opened = await calls.unwrap(target, sample)
            missing |= {name for name, answer in ((WRAP, wrapped), (UNWRAP, opened)) if _is_denied(answer)}
        made = ungranted(self._case(target), missing=_ordered(missing), untold=_ordered(untold))
        return GrantMissingError(made.message, hint=made.hint, commands=made.commands, missing=_ordered(missing))

    async def _destination(self, spec: AccountSpec, target: KeyTarget, consent: Consent) -> _Destination:
        """Find the version to wrap with: the watch's current one, or the newest, proved now."""
        calls = Round(self._keys, self._clock, deadline=self._deadline)
        facts = await calls.get(target)
        if _is_denied(facts):
            raise await self.lacking(target, GET)
        absent = isinstance(facts, Refused) and facts.kind is RefusalKind.NOT_FOUND
        if not (absent or isinstance(facts, KeyFacts)):
            raise VaultRefusedError("look at the key", facts)
        found = facts if isinstance(facts, KeyFacts) else None
        if (why := objection(await self._candidate(spec, target, found, consent))) is not None:
            raise _refused(why)
        watch = await self._store.find_watch(target)
        if watch is not None or found is None:
            return _joined(target, watch)
        if (why := unfit(found, self._clock.now())) is not None:
            raise _refused(why)
        exact = _at(target, target.key.at(found.version))
        probe = await prove(calls, exact, self._randomness)
        if isinstance(probe, Refused | NoAnswer):
            if _is_denied(probe):
                raise await self.lacking(exact, _operation(probe))
            raise VaultRefusedError("wrap and unwrap with the key", probe)
        warning = of_purging(found)
        return _Destination(exact, NewVersion(found, probe), () if warning is None else (warning,))

    async def _candidate(
        self, spec: AccountSpec, target: KeyTarget, facts: KeyFacts | None, consent: Consent
    ) -> Candidate:
        must_name = self._identity(spec).shared and consent is Consent.NONE
        named = not must_name or (facts is not None and spec.id in facts.accounts)
        # What is wanted of a vault is wanted when an account comes to it; that it lacks it now must not keep it out.
        wanted = consent is not Consent.ACCOUNT_KEY
        return Candidate(
            account=spec.id,
            location=spec.location,
            facts=facts,
            case=self._case(target),
            must_name=must_name,
            must_last=wanted and self._settings.vaults.require_purge_protection,
            vault=await self._vault(spec, target) if wanted and named else None,
        )

    async def _vault(self, spec: AccountSpec, target: KeyTarget) -> VaultProperties | None:
        return await self._registry.vault(target, subscription=spec.id.subscription)

    def _identity(self, spec: AccountSpec) -> IdentitySettings:
        return self._settings.identities.get(spec.identity or "", IdentitySettings())

    def _case(self, target: KeyTarget) -> Case:
        identity = self._settings.identities.get(target.identity, IdentitySettings())
        return Case(
            target.key,
            target.tenant,
            target.identity,
            identity.client_id,
            inner_code=None,
            address=None,
            now=self._clock.now(),
        )


def taken(spec: AccountSpec) -> AccountRefusedError:
    """Say that an identity serves another customer, and not whom."""
    return AccountRefusedError(
        f"the identity {spec.identity} serves accounts of another customer tenant: what that customer granted it must "
        "not serve this one",
        hint="give the account an identity of its own; or whoever runs byokd sets "
        f"identities.{spec.identity}.shared = true, and then a tag of each key has to name the account",
    )


def _refused(why: Objection) -> AccountRefusedError:
    return AccountRefusedError(why.message, hint=why.hint, commands=why.commands)


def _joined(target: KeyTarget, watch: Watch | None) -> _Destination:
    if watch is None:
        raise TypeError("a key that is not there is objected to")
    return _Destination(_at(target, watch.key.at(watch.current_version.version)), None, watch.warnings)


def _is_denied(answer: object) -> bool:
    return isinstance(answer, Refused) and answer.kind is RefusalKind.ACCESS_DENIED


def _operation(answer: Refused | NoAnswer) -> str:
    return answer.evidence.operation


def _ordered(names: set[str]) -> tuple[str, ...]:
    return tuple(name for name in (GET, WRAP, UNWRAP) if name in names)


def _at(target: KeyTarget, key: KeyIdentifier) -> KeyTarget:
    return KeyTarget(target.identity, target.tenant, key)
