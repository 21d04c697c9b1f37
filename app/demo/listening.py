"""Load the listening service: its weeks, sixty experiments known by summaries, what was shipped, and its reviews."""

from datetime import timedelta
from typing import Any, Final

from app.cli.client import ApiClient
from app.demo.progress import Steps
from app.demo.sending import push
from stats.company import ExperimentRecord, LaunchRecord
from stats.company.listening import Listening
from stats.company.listening.story import BROKEN, CHEAP, GAMED, PEEKED

STEPS: Final = 7
_A_DAY: Final = timedelta(days=1)
_REASONS: Final = {
    "ship": "People listen longer with it.",
    "roll_back": "People listen less with it.",
    "iterate": "No difference that we could tell from chance; the idea goes back to its team.",
}
_KEPT: Final = "It costs nothing to keep, and it more likely helps than harms."
_AS_AGREED: Final = "Decided on the hours listened, as the company agreed, and on nothing else."
_LEARNINGS: Final = {
    "ship": "The claim is what the experiment measured; the ledger will say what came of it.",
    "roll_back": "Taken back before more than a few had it.",
    "iterate": "Smaller than we can see with so many listeners, if it is there at all.",
}
_NOTES: Final = {
    BROKEN: "A twentieth of the treatment was lost between the app and the log: count listeners on the server.",
    GAMED: "Many short sessions are not listening: look at the hours, not at the sessions.",
    PEEKED: "It was stopped when it looked best. Fix the end before the beginning.",
}


def submit(client: ApiClient, told: Listening, steps: Steps) -> dict[str, str]:
    """Define everything, send weeks and summaries, and ask for all analyses: their ids by experiment."""
    _define(client, told, steps)
    push(client, told.series, steps)
    steps.begin(f"sending summaries of {len(told.experiments)} experiments")
    asked = {record.spec["key"]: _run(client, told, record) for record in told.experiments}
    steps.done()
    return asked


def conclude(client: ApiClient, told: Listening, asked: dict[str, str], steps: Steps) -> dict[str, str]:
    """Decide and launch what has been analysed, then ask for all that follows from it: ids by what it is about."""
    for key, analysis_id in asked.items():
        client.wait(analysis_id, progress=steps.following(f"analysing {key}"))
    steps.done()
    steps.begin("deciding and launching")
    shipped = {launch.spec["experiment_key"]: launch for launch in told.launches if "experiment_key" in launch.spec}
    for record in told.experiments:
        if record.spec["key"] in told.decisions:
            _decide(client, told, record, shipped.get(record.spec["key"]))
    for launch in told.launches:
        if "experiment_key" not in launch.spec:
            client.ensure("/v1/launches", launch.spec)
    steps.done()
    return _review(client, told, steps)


def _define(client: ApiClient, told: Listening, steps: Steps) -> None:
    steps.begin("defining a listening service")
    for path, specs in (
        ("/v1/fact-sources", told.fact_sources),
        ("/v1/metrics", told.metrics),
        ("/v1/series", [record.spec for record in told.series]),
        ("/v1/north-stars", [told.north_star]),
        ("/v1/experiments", [record.spec for record in told.experiments]),
    ):
        for spec in specs:
            client.ensure(path, spec)
    steps.done()


def _run(client: ApiClient, told: Listening, record: ExperimentRecord) -> str:
    """Start it, send what it measured, stop it if it has ended, and ask for its analysis."""
    key = record.spec["key"]
    client.move(key, "start", record.started_at)
    path = f"/v1/experiments/{key}/summaries"
    client.request("POST", path, json=told.summaries[key], params={"batch_id": f"summaries-of-{key}"})
    if record.ended_at is not None:
        client.move(key, "stop", record.ended_at)
    return str(client.post(f"/v1/experiments/{key}/analyses")["id"])


def _decide(client: ApiClient, told: Listening, record: ExperimentRecord, launch: LaunchRecord | None) -> None:
    """What people chose then; a launch comes with its decision, and its steps are written down after it."""
    key = record.spec["key"]
    outcome = told.decisions[key]
    assert record.ended_at is not None
    path = f"/v1/experiments/{key}/decisions"
    if not client.get(path)["items"]:
        cheap = outcome == "ship" and key in CHEAP
        decision: dict[str, Any] = {
            "outcome": outcome,
            "reason": _KEPT if cheap else _REASONS[outcome],
            "learnings": _NOTES.get(key, _LEARNINGS[outcome]),
            "decided_at": (record.ended_at + _A_DAY).isoformat(),
            "override_reason": _KEPT if cheap else _AS_AGREED,
        }
        if launch is not None:
            decision |= {"shipped_variant": "treatment", "launch_key": launch.spec["key"]}
            decision["coverage"] = launch.spec["rollout"][0]["coverage"]
        client.post(path, decision)
    if launch is not None:
        client.put(f"/v1/launches/{launch.spec['key']}", launch.spec)


def _review(client: ApiClient, told: Listening, steps: Steps) -> dict[str, str]:
    """The holdout, then everything that is learned from all experiments together."""
    steps.begin("asking for the programme, the links and the growth reviews")
    client.ensure("/v1/holdouts", told.holdout)
    star = told.north_star
    found = {
        "the programme": _ask(client, f"/v1/metrics/{star['metric_key']}/programme"),
        "the links": _ask(client, f"/v1/north-stars/{star['key']}/links/analyses"),
    }
    earlier, last = told.reviews
    for review in (earlier, last):
        client.ensure("/v1/growth-reviews", review)
    # The last quarter is compared with the review before it, so that has to be there.
    client.wait(_ask(client, f"/v1/growth-reviews/{earlier['key']}/analyses"), progress=steps.following("reviewing"))
    found["the last quarter"] = _ask(client, f"/v1/growth-reviews/{last['key']}/analyses")
    steps.done()
    return found


def _ask(client: ApiClient, path: str) -> str:
    return str(client.post(path)["id"])
