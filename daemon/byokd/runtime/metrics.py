"""The metrics. Few labels, base units; never a key, a token or an error text."""

from collections.abc import Iterable
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from byokd.domain.brake import EngagedBy
from byokd.domain.vocabulary import Outcome, State, WarningKind
from byokd.records import Census


class Drop(StrEnum):
    """Why an account key in the clear was dropped."""

    DENIED = "denied"
    DAMAGED = "damaged"
    EXPIRED = "expired"
    BOUND = "bound"
    REPLACED = "replaced"


class Opening(StrEnum):
    """How a use came by an account key, or why not."""

    HELD = "held"
    UNWRAPPED = "unwrapped"
    REFUSED = "refused"
    UNANSWERED = "unanswered"
    DAMAGED = "damaged"


class CensusGauges:
    """What the store counts, as gauges."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._held = Gauge("byokd_denials_held", "Denials that the brake holds", registry=registry)
        self._accounts = Gauge("byokd_accounts", "Accounts by state", ["state"], registry=registry)
        self._watches = Gauge("byokd_watches", "Watches", registry=registry)
        self._vaults = Gauge("byokd_vaults", "Vaults", registry=registry)
        self._versions = Gauge(
            "byokd_wrapping_versions", "Wrapping versions that are not well", ["condition"], registry=registry
        )
        self._unpublished = Gauge("byokd_events_unpublished", "Events that wait for the broker", registry=registry)
        self._rewraps_waiting = Gauge("byokd_rewraps_waiting", "Account keys that wait to be moved", registry=registry)
        self._damaged = Gauge("byokd_accounts_damaged", "Accounts whose own record does not open", registry=registry)
        self._warnings = Gauge("byokd_warnings", "Watches with a warning", ["kind"], registry=registry)

    def show(self, census: Census) -> None:
        """Set the gauges from the store's numbers."""
        for state in State:
            self._accounts.labels(state).set(census.accounts.get(state, 0))
        self._watches.set(census.watches)
        self._vaults.set(census.vaults)
        self._versions.labels("denied").set(census.denied_versions)
        self._versions.labels("suspected").set(census.suspected_versions)
        self._versions.labels("unverified").set(census.unverified_versions)
        self._held.set(census.held_versions)
        self._unpublished.set(census.unpublished)
        self._rewraps_waiting.set(census.rewraps_waiting)
        self._damaged.set(census.damaged_accounts)
        for kind in WarningKind:
            self._warnings.labels(kind).set(census.warnings.get(kind, 0))


class Metrics:
    """One registry per daemon, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._add_checks()
        self._add_vault_calls()
        self._add_event_grid()
        self._add_changes()
        self._add_plaintext()
        self._add_own_faults()
        self._census = CensusGauges(self.registry)

    def show(self, census: Census) -> None:
        """Set the gauges from the store's numbers."""
        self._census.show(census)

    def _add_checks(self) -> None:
        self.checks = self._counter("byokd_checks_total", "Observations of wrapping versions", "outcome", known=Outcome)
        self.check_seconds = Histogram(
            "byokd_check_duration_seconds",
            "Time of one check, all its calls included",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.check_lag_seconds = Histogram(
            "byokd_check_lag_seconds",
            "Start of a check minus its due time",
            buckets=(0.01, 0.1, 0.5, 1, 2, 6, 15, 60),
            registry=self.registry,
        )

    def _add_vault_calls(self) -> None:
        self.vault_wait_seconds = Histogram(
            "byokd_vault_call_wait_seconds",
            "Time that calls to vaults waited for our own limit, of those that had to",
            ["priority"],
            buckets=(0.01, 0.05, 0.25, 1, 2.5, 5, 15),
            registry=self.registry,
        )
        self.vault_waits_given_up = self._counter(
            "byokd_vault_calls_given_up_total",
            "Calls to vaults that were not made because of our own limit",
            "priority",
        )

    def _add_event_grid(self) -> None:
        self.hints = self._counter(
            "byokd_hints_total", "Signals of Event Grid, by source and what became of them", "source", "outcome"
        )
        self.deliveries_refused = self._counter(
            "byokd_deliveries_refused_total", "Deliveries of Event Grid that were not taken", "why"
        )
        self.queue_messages = self._counter(
            "byokd_queue_messages_total",
            "Messages of Event Grid's queues, by source and what became of them, each time that they came",
            "source",
            "outcome",
        )
        self.queue_failures = self._counter(
            "byokd_queue_failures_total", "Calls to Event Grid's queues that failed, by source and why", "source", "why"
        )
        self.queues_in_trouble = Gauge(
            "byokd_queues_in_trouble", "Queues of Event Grid that cannot be used", registry=self.registry
        )

    def _add_changes(self) -> None:
        results = ("done", "failed")
        self.verdicts = self._counter("byokd_verdict_changes_total", "Committed changes of verdicts", "outcome")
        self.rewraps = self._counter("byokd_rewraps_total", "Rewraps", "result", known=results)
        self.reseals = self._counter(
            "byokd_reseals_total", "Seals replaced by the newest service keys", "result", known=results
        )
        self.published = self._counter("byokd_events_published_total", "Events acknowledged by the broker")

    def _add_plaintext(self) -> None:
        self.plaintext_held = Gauge("byokd_plaintext_held", "Account keys held in the clear", registry=self.registry)
        self.plaintext_drops = self._counter(
            "byokd_plaintext_drops_total", "Account keys in the clear that were dropped", "cause", known=Drop
        )
        self.account_key_opens = self._counter(
            "byokd_account_key_opens_total", "Account keys wanted for use", "outcome", known=Opening
        )

    def _add_own_faults(self) -> None:
        self.own_faults = Gauge(
            "byokd_own_faults",
            "Trouble of our own: 1, or how many identities get no token",
            ["fault"],
            registry=self.registry,
        )
        self.brake_engaged = Gauge("byokd_brake_engaged", "1 while the brake is engaged", registry=self.registry)
        self.brake_engagements = self._counter(
            "byokd_brake_engagements_total", "Engagements of the brake", "cause", known=EngagedBy
        )

    def _counter(self, name: str, words: str, *labels: str, known: Iterable[str] = ()) -> Counter:
        """Add a counter; those of its one label that are known are there from the start, so that rates are right."""
        counter = Counter(name, words, labels, registry=self.registry)
        for value in known:
            counter.labels(value)
        return counter
