"""No account key is lost: each opens as it did at first, every wrap was proved, and none goes before its time."""

from byokd.adapters.sealing.sealer import AesGcmSealer
from byokd.domain.identifiers import AccountId, KeyIdentifier
from byokd.domain.payload import Payload
from byokd.records import SealedKey, WrappedKey
from byokd.runtime.layers import Layers
from simulation.rows import KeyRow, Rows
from simulation.trace import ViolatedError
from simulation.world import SimWorld

LOST = "1 no account key is lost"
PINNED = "1 a pinned key stays"
UNUSED = "9 retired versions are unused"


class KeyOracle:
    """Remembers every account key that it ever saw, by the account's incarnation."""

    def __init__(self, world: SimWorld, rows: Rows) -> None:
        self._world = world
        self._rows = rows
        sealer: AesGcmSealer = world.sealer
        self._layers = Layers(sealer, world.cipher)
        self.secrets: dict[str, bytes] = {}
        self._seen: dict[tuple[str, int], KeyRow] = {}
        self._opened: dict[tuple[str, int], bytes] = {}

    def on_commit(self) -> None:
        rows = {(row.incarnation, row.generation): row for row in self._rows.keys}
        current: dict[AccountId, int] = {}
        for place, row in rows.items():
            if self._opened.get(place) != row.sealed:
                self._open(row)
                self._opened[place] = row.sealed
            if row.superseded is None:
                current[row.account] = row.generation
        wanted = {account.id: account.generation for account in self._rows.accounts.values()}
        if current != wanted:
            raise ViolatedError(LOST, f"generations of current wraps are {current}, of accounts {wanted}")
        self._look_for_erased(rows)
        self._seen = rows

    def _open(self, row: KeyRow) -> None:
        account = row.account
        identifier = None
        if row.identifier is not None:
            identifier = KeyIdentifier.parse(row.identifier, allowed_suffixes=["vault.azure.net"])
        wrapped = WrappedKey(
            account, row.generation, identifier, SealedKey(row.sealed, row.storage_key, row.system_key)
        )
        try:
            payload = self._payload(wrapped, row)
        except ViolatedError:
            raise
        except Exception as error:
            raise ViolatedError(LOST, f"{account.name} generation {row.generation} does not open: {error!r}") from error
        if self.secrets.setdefault(row.incarnation, payload.account_key) != payload.account_key:
            raise ViolatedError(LOST, f"{account.name} generation {row.generation} opens to another key than it had")

    def _payload(self, wrapped: WrappedKey, row: KeyRow) -> Payload:
        wrap = self._layers.uncover(wrapped)
        if wrapped.key_identifier is None:
            return self._layers.unwrap(wrapped, wrap)
        version, data = self._world.vaults.wraps[wrap.inner]
        if wrapped.key_identifier.version != version:
            raise ViolatedError(
                LOST, f"the record of {wrapped.account.name} names another version than the one that wrapped"
            )
        if wrap.inner not in self._world.vaults.proved:
            raise ViolatedError(LOST, f"a wrap of {wrapped.account.name} was stored that was never unwrapped")
        stored = None if row.version is None else self._rows.versions.get(row.version)
        if stored is None or stored.target.key != wrapped.key_identifier:
            raise ViolatedError(
                LOST, f"{wrapped.account.name}: the wrap's version is {wrapped.key_identifier}, not {stored}"
            )
        if stored.pinned and not stored.current:
            raise ViolatedError(PINNED, f"{wrapped.account.name} was moved off its pinned version")
        return self._layers.read(wrapped, wrap, data)

    def _look_for_erased(self, rows: dict[tuple[str, int], KeyRow]) -> None:
        lives = {account.incarnation: account for account in self._rows.accounts.values()}
        now, settle = self._world.clock.now(), self._world.settings.rewrap.settle
        for place in self._seen.keys() - rows.keys():
            account = lives.get(place[0])
            if account is None:
                continue
            row = self._seen[place]
            if row.superseded is None or now - row.superseded < settle:
                raise ViolatedError(LOST, f"the wrap {place[1]} of {row.account.name} was erased too early")
            standing = None if account.version is None else self._rows.versions[account.version]
            if standing is not None and not standing.is_well:
                raise ViolatedError(LOST, f"the wrap {place[1]} of {row.account.name} was erased while {standing}")

    def retired(self, identifier: str) -> None:
        """A version was told to be unused."""
        if any(row.identifier == identifier for row in self._rows.keys):
            raise ViolatedError(UNUSED, f"{identifier} still wraps")
