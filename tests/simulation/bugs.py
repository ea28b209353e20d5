"""Bugs to plant, one at a time: what the simulation does not find, it does not prove.

A plant replaces a piece of production code, which must be there, once: a plant cannot silently come to nothing.
"""

import importlib
import inspect
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType

FOUND = Path(__file__).with_name("found.json")
"""By which seed each was found when all were last looked for, which writes it; there the tests begin to look."""


@dataclass(frozen=True, slots=True)
class Plant:
    """In the function of that module (below `byokd.`), this text becomes that one."""

    module: str
    function: str
    text: str
    instead: str

    def put(self) -> None:
        """Replace it, in this process, for everybody who has imported it.

        Raises:
            LookupError: there is no such text there, or more than one.
        """
        module = importlib.import_module(f"byokd.{self.module}")
        found: object = module
        for name in self.function.split("."):
            found = getattr(found, name)
        assert isinstance(found, FunctionType)
        source = _sources.get(found) or textwrap.dedent(inspect.getsource(found))
        if source.count(self.text) != 1:
            raise LookupError(f"{self.module}:{self.function} does not have this once: {self.text}")
        made: dict[str, FunctionType] = {}
        exec(source[source.index(_def(found)) :].replace(self.text, self.instead), module.__dict__, made)  # noqa: S102
        found.__code__ = made[found.__name__].__code__
        _sources[found] = source.replace(self.text, self.instead)


_sources: dict[FunctionType, str] = {}
"""What functions have become, so that two plants can share one."""


def _def(function: FunctionType) -> str:
    return ("async def " if inspect.iscoroutinefunction(function) else "def ") + function.__name__


BUGS: dict[str, tuple[Plant, ...]] = {
    "throttled-as-denial": (
        Plant(
            "domain.judge", "no_answer", "if isinstance(seen.probe, NoAnswer):",
            "if isinstance(seen.probe, NoAnswer) and seen.probe.reason is Reason.THROTTLED:\n"
            "        return Observation(Outcome.DENIED, Reason.ACCESS_DENIED, 'no', ())\n"
            "    if isinstance(seen.probe, NoAnswer):",
        ),
    ),
    "no-confirmation": (
        Plant(
            "domain.weigh", "weigh", "for rule in RULES if",
            "for rule in RULES if rule not in (first_denial, denied_too_soon) and",
        ),
    ),
    "confirmed-too-soon": (Plant("domain.weigh", "denied_too_soon", "stood >= wait * PUNCTUAL", "stood >= wait / 3"),),
    "usable-clears-no-suspicion": (
        Plant("domain.weigh", "usable_as_before", "replace(case.answered, suspicion=None)", "case.answered"),
    ),
    "silence-confirms-denial": (
        Plant(
            "domain.weigh", "silent", "    before = case.verdict.unverified",
            "    held = case.verdict.suspicion\n"
            "    if case.was_usable and held is not None and case.now - held.since >= case.policy.confirm_after:\n"
            "        return _changed(case, Observation(Outcome.DENIED, held.reason, held.message, ()))\n"
            "    before = case.verdict.unverified",
        ),
    ),
    "recovery-without-proof": (
        Plant(
            "domain.weigh", "silent", "    before = case.verdict.unverified",
            "    if not case.was_usable:\n"
            "        return _changed(case, Observation(Outcome.USABLE, None, 'perhaps', ()))\n"
            "    before = case.verdict.unverified",
        ),
    ),
    "clock-step-confirms": (
        Plant("runtime.standing", "Standing.of", "known is not None and known[0] == suspicion.since", "False"),
    ),
    "slow-look-confirms": (
        Plant("runtime.looking", "Looker.look", ", stood=stood)", ")"),
    ),
    "old-connection-confirms": (
        Plant("runtime.checker", "Checker.check", "self._fresh_keys if suspected else self._keys", "self._keys"),
    ),
    "unknown-outcome-not-read-again": (
        Plant("runtime.roll_call", "RollCall.make_sure", "if entry.outcome_unknown:", "if False:"),
    ),
    "lost-hint-during-check": (
        Plant(
            "runtime.scheduler", "Scheduler.hint", "entry is None or entry.hinted or",
            "entry is None or entry.hinted or entry.started is not None or",
        ),
    ),
    "denial-of-one-version-applied-to-other": (
        Plant(
            "domain.decide", "decide", "next(entry for entry in look.seen if entry.version == version.version)",
            "look.seen[0]",
        ),
    ),
    "probe-of-wrong-version": (
        Plant(
            "runtime.looking", "_Asking._probe", "watch.key.at(version.version)",
            "watch.key.at(watch.current_version.version)",
        ),
    ),
    "stale-get-adopted": (
        Plant(
            "domain.verdict", "Watch.is_newer", "not older and ", "",
        ),
    ),
    "pinned-key-rotated": (
        Plant("domain.decide", "candidate", "watch.key.version is not None or ", ""),
        Plant(
            "runtime.looking", "_Asking._read_newest", "await calls.get(target_of(watch, watch.key))",
            "await calls.get(target_of(watch, KeyIdentifier(watch.key.host, watch.key.name)))",
        ),
    ),
    "rewrap-committed-unproved": (
        Plant(
            "runtime.account_keys", "AccountKeys._wrap_proved", "opened = await calls.unwrap(target, wrapped)",
            "opened = plaintext",
        ),
    ),
    "unchecked-row-count": (
        Plant("adapters.sql.ledger", "expect", "if touched != wanted:", "if False:"),
        Plant("adapters.sql.verdicts", "_guard", "!= watch.epoch", "is ..."),
        Plant("adapters.sql.rewraps", "_is_unmoved", "return (row", "return True or (row"),
        Plant(
            "adapters.sql.accounts", "_unchanged", "(before.incarnation, before.sequence) !=",
            "False and (before.incarnation, before.sequence) !=",
        ),
    ),
    "previous-wrap-erased-at-once": (
        Plant("runtime.rewrapper", "Rewrapper._settle_old", "now - self._settings.settle", "now"),
    ),
    "version-retired-too-early": (
        Plant(
            "adapters.sql.settling", "_retire", "_UNNEEDED_VERSION &",
            "wrapping_versions.c.is_current.is_(False) & _IN_USE &",
        ),
    ),
    "acknowledged-before-sent": (
        Plant(
            "runtime.publisher", "Publisher._send_pages", "acknowledged, loss = await self._send(",
            "await self._outbox.mark([row.number for row in rows]); acknowledged, loss = await self._send(",
        ),
    ),
    "refused-is-overtaken": (
        Plant("runtime.publisher", "Publisher._send_lane", "str(refusal))\n                return", "str(refusal))"),
    ),
    "marker-ahead": (
        Plant("adapters.sql.outbox", "contiguous", "if first is None else first - 1", ""),
    ),
    "sequence-with-gaps": (
        Plant(
            "adapters.sql.ledger", "Change.of.__func__", "sequence=after.sequence + 1",
            "sequence=after.sequence + 1 + (item.type is EventType.ACCOUNT_ACCESSIBLE)",
        ),
    ),
    "retained-not-cleared-on-delete": (
        Plant("adapters.sql.outbox", "record_account_events", "Retained.CLEAR if", "Retained.KEEP if"),
    ),
    "follower-skips-one": (
        Plant("adapters.sql.verdicts", "follow_verdicts", "for row in rows:", "for row in rows[1:]:"),
    ),
    "plaintext-kept-after-denial": (
        Plant(
            "runtime.plaintext", "PlaintextKeys._drop_denied",
            "self._drop(tuple(self._of_target.get(target, ())), Drop.DENIED)", "0",
        ),
        Plant(
            "runtime.plaintext", "PlaintextKeys._keeps",
            "not gate.is_suspected and (target is None or not self._doubts.is_in_doubt(target))", "True",
        ),
        Plant(
            "runtime.plaintext", "PlaintextKeys.is_good",
            "and (target is None or not self._doubts.denied_since(target, opened.asked))", "or target is ...",
        ),
    ),
    "plaintext-never-old": (
        Plant("runtime.plaintext", "PlaintextKeys._seconds_left", "- age", "- 0 * age"),
    ),
    "gate-left-open": (
        Plant(
            "runtime.plaintext", "PlaintextKeys.gate", "if standing.outcome is Outcome.DENIED:\n            raise",
            "if False:\n            raise",
        ),
    ),
    "brake-frees-by-time": (
        Plant(
            "domain.weigh", "held_by_the_brake", ">= case.policy.brake_max_hold", ">= case.policy.brake_max_hold / 60",
        ),
    ),
    "brake-holds-nothing": (
        Plant("runtime.brake", "Brakeman.decide", "consulted.ruling is Ruling.HOLD", "False"),
        Plant("runtime.brake", "Brakeman.decide", "consulted.ruling is Ruling.WAIT or", "False or"),
    ),
}  # fmt: skip
"""By name."""


def plant(name: str) -> None:
    """Plant a bug in this process, for good."""
    for one in BUGS[name]:
        one.put()
