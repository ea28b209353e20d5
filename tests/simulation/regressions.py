"""Seeds that once failed, each with what it showed. They are run every time.

When the adversary learns something new, a seed becomes another story: each cause has a test of its own beside.
"""

REGRESSIONS = {
    2: "a clock that was set forward confirmed a denial",
    11: "a second look right after the first counted, because GET was slow to explain it",
    19: "the same, while the key was made anew",
    268: "a reload forgot how long a suspicion had stood, and the clock was set forward",
    460: "a suspicion whose commit was taken for lost stayed for ever, however often the version was usable",
    139: "a lane of rewraps that trouble of the store broke off before its first step was never opened again",
    453: "a first denial whose commit was taken for lost had nobody else looked at before it counted",
    1580: "a probe that opened beside the checks did not count between two odd answers",
    1681: "a suspicion whose commit was taken for lost was confirmed by a clock that was set forward",
    3322: "the same after another commit; and a slow denial after a quick one was looked at twice a second",
    9803: "a key that came while the store stumbled was not watched until the next start",
    2217: "a broker that came back after an hour was owed more than mqtt.outbox_retention promises",
    489: "two watches of one version confirm each other's denials, each on looks of its own",
}
