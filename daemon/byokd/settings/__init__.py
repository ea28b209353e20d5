"""The settings: frozen groups, a docstring per field with unit, default and reason.

Read (by `byokd.runtime.configuration`) from a TOML file, overridable by environment variables
BYOKD_<SECTION>__<NAME>. Secrets come only from files.
docs/settings.md is generated from this package.
"""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from byokd.settings.account_keys import RegistrationSettings as RegistrationSettings
from byokd.settings.account_keys import RewrapSettings as RewrapSettings
from byokd.settings.account_keys import ValueSettings as ValueSettings
from byokd.settings.azure import ArmSettings as ArmSettings
from byokd.settings.azure import NetworkSettings as NetworkSettings
from byokd.settings.azure import VaultSettings as VaultSettings
from byokd.settings.bus import MqttSettings as MqttSettings
from byokd.settings.checks import BrakeSettings as BrakeSettings
from byokd.settings.checks import CheckSettings as CheckSettings
from byokd.settings.event_grid import EventGridSettings as EventGridSettings
from byokd.settings.event_grid import flaw_of_queues
from byokd.settings.group import Group
from byokd.settings.identities import IdentitySettings as IdentitySettings
from byokd.settings.identities import check_together
from byokd.settings.kinds import Name
from byokd.settings.service import HttpSettings as HttpSettings
from byokd.settings.service import ServiceKeySettings as ServiceKeySettings
from byokd.settings.service import ServiceSettings as ServiceSettings
from byokd.settings.store import StoreSettings as StoreSettings


class Settings(Group):
    """All of them."""

    service: ServiceSettings = ServiceSettings()
    store: StoreSettings = StoreSettings()
    vaults: VaultSettings = VaultSettings()
    network: NetworkSettings = NetworkSettings()
    identities: Annotated[Mapping[Name, IdentitySettings], AfterValidator(check_together)] = Field(default_factory=dict)
    """Credential sources by name, such as `[identities.platform]`."""
    registration: RegistrationSettings = RegistrationSettings()
    arm: ArmSettings = ArmSettings()
    checks: CheckSettings = CheckSettings()
    brake: BrakeSettings = BrakeSettings()
    rewrap: RewrapSettings = RewrapSettings()
    values: ValueSettings = ValueSettings()
    service_keys: ServiceKeySettings = ServiceKeySettings()
    mqtt: MqttSettings = MqttSettings()
    http: HttpSettings = HttpSettings()
    event_grid: EventGridSettings = EventGridSettings()

    @model_validator(mode="after")
    def _sources_speak_of_vaults(self) -> Self:
        """What no vault that byokd may look at is called would be passed over, silently and for ever."""
        for name, source in self.event_grid.sources.items():
            for pattern in source.vaults:
                if pattern.partition(".")[2] not in self.vaults.allowed_suffixes:
                    raise ValueError(
                        f"event_grid.sources.{name}.vaults: {pattern} is no vault under one of vaults.allowed_suffixes "
                        f"({', '.join(self.vaults.allowed_suffixes)})"
                    )
        return self

    @model_validator(mode="after")
    def _what_is_sent_again_is_kept(self) -> Self:
        if self.mqtt.outbox_retention > self.store.history_retention:
            raise ValueError(
                "mqtt.outbox_retention is longer than store.history_retention: what is to be sent again would be "
                "deleted by then"
            )
        return self

    @model_validator(mode="after")
    def _listeners_are_apart(self) -> Self:
        if self.event_grid.webhooks and self.event_grid.listen == self.http.listen and self.http.listen[-2:] != ":0":
            raise ValueError("event_grid.listen is http.listen: deliveries have an address of their own")
        return self

    @model_validator(mode="after")
    def _queues_can_be_read(self) -> Self:
        if flaw := flaw_of_queues(self.event_grid.queues, self.identities):
            raise ValueError(flaw)
        return self

    @model_validator(mode="after")
    def _identities_are_apart(self) -> Self:
        """Two names for one identity would let what one customer granted serve another after all."""
        named: dict[str, str] = {}
        for name, identity in self.identities.items():
            # A grant is to an application, by whatever kind, certificate or token that one proves itself.
            granted = identity.client_id or str(identity.resource_id or "")
            alike = named.setdefault(granted, name)
            if alike != name and not (identity.shared and self.identities[alike].shared):
                raise ValueError(
                    f"identities.{alike} and identities.{name} are the same identity, and not both shared: what one "
                    "customer grants it would serve another's accounts"
                )
        return self


NEEDS_RESTART = frozenset(
    {
        "service.instance",
        "service.socket",
        "store",
        "service_keys",
        "http.listen",
        "event_grid.listen",
        "event_grid.waiting",
        "event_grid.head_timeout",
    }
)
"""Settings, and whole sections, that are read only when the daemon starts: who it is, what it stores in and listens on,
the keys it has proved. A reload that would change one of them is refused. All others are taken."""

TAKEN_AT_ONCE = frozenset({"store.history_retention"})
"""Settings of such a section that a reload takes all the same."""
