"""Load the synthetic company into a running service, through the public API only, as its product teams would have."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from app.cli.client import ApiClient, ApiProblem
from app.demo import listening
from app.demo.progress import Steps, shown
from app.demo.sending import ingest, push
from stats.company import Company, ExperimentRecord, LaunchRecord, generate
from stats.company.definitions import fact_sources

DAYS = 182
NORTH_STAR_GROWTH = 1.15
OUTCOMES = {"better": "ship", "worse": "roll_back", "unreliable": "iterate"}
REASONS = {
    "ship": "The primary metric is better and every guardrail holds.",
    "roll_back": "The evidence says that this harms.",
    "iterate": "The evidence does not carry a launch; we change the idea and try again.",
}
RAMP_REASON = "The first stage showed no harm: the treatment gets its full share."
NOT_YET = "Better on its primary metric, but other bets move the North Star further; they go first."
LEARNINGS = {
    "ship": "The idea works; the next bet builds on it.",
    "roll_back": "Look at the North Star, not at the input alone.",
    "iterate": "Agree on the smallest effect worth having before the next run.",
}
# What a team could have learned whatever the luck of the draw: from the design and from the large effects.
NOTES = {
    "onboarding_checklist": "A habit in the first days brings people back for weeks: onboarding is worth more bets.",
    "one_click_reorder": "One click beats a button, and iOS gains the most: the web needs a place of its own for it.",
    "dark_mode": "Nobody uses the shop more in the dark. It stays a choice, and not a bet.",
    "checkout_upsell": "Dearer orders, but fewer of them: guard orders, not visits, when checkout changes.",
    "loyalty_points": "One arm lost the exposures of quiet users: log exposure on the server, then run it again.",
    "gift_cards": "Three users in a hundred are too few for an effect of this size: enrol everybody next time.",
    "pipeline_check": "The pipeline of the members' product tells no differences where there are none.",
    "new_search": "The keen came first and saw the old search: only members of the same stage can be compared.",
    "quick_quotes": "A bound for weekly looks lets a large effect end an experiment before its planned end.",
    "saved_lists": "Lists and reminders do the same work: together they sell less than their sum.",
    "reminders": "Lists and reminders do the same work: together they sell less than their sum.",
    "infinite_feed": "Engagement can rise while orders fall: look at the North Star, not at the input alone.",
}


def loaded(client: ApiClient) -> bool:
    """Whether an earlier load came to its end, the baseline of the users."""
    return bool(client.get("/v1/analyses", kind="baseline", state="succeeded")["items"])


def load_company(
    client: ApiClient, *, seed: int, console: Console, users: int = 20_000, with_listening: bool = True
) -> Company:
    """Define, feed, analyse and decide everything that the company did in its last 26 weeks. Returns the company.

    The listening service with its two years comes too unless it is left out. Every request carries an identity, so a
    load that was interrupted can be run again.
    """
    start = _begun_at(client) - timedelta(days=DAYS)
    with shown(console) as steps:
        company = generate(start, seed=seed, users=users)
        experiments = _experiments(company)
        ended = [experiment for experiment in experiments if experiment.ended_at is not None]
        running = [experiment for experiment in experiments if experiment.ended_at is None]
        steps.expect(18 + len(experiments) + with_listening * listening.STEPS)
        _define(client, company, steps)
        # Submitted before there is anything else to compute: the workers have time while events are sent.
        asked = listening.submit(client, company.listening, steps) if with_listening else {}
        _start(client, ended, steps)
        _expose(client, company, ended, "past", steps)
        _feed(client, company, steps)
        push(client, company.series, steps)
        # Asked for first: a model that no machine has sampled before is compiled while experiments are analysed.
        measuring = _launch(client, [one for one in company.launches if one.spec.get("experiment_key") is None], steps)
        _analyse(client, company, ended, steps)
        _learn(client, company, steps)
        # Started last, because a plan keeps the priors that there were when it was frozen.
        _start(client, running, steps)
        _expose(client, company, running, "running", steps)
        _analyse(client, company, running, steps)
        measuring |= _launch(client, [one for one in company.launches if one.spec.get("experiment_key")], steps)
        if with_listening:
            reviewing = listening.conclude(client, company.listening, asked, steps)
        _wait(client, measuring, "measuring", steps)
        if with_listening:
            _wait(client, reviewing, "reviewing", steps)
        steps.begin("drawing the North Star")
        for path in ("/v1/north-stars/weekly_orders/analyses", "/v1/baselines/user/analyses"):
            client.wait(str(client.post(path)["id"]))
            steps.done()
        steps.begin("the company is loaded")
    return company


def _wait(client: ApiClient, analyses: Mapping[str, str], doing: str, steps: Steps) -> None:
    """For these analyses, by what they are about."""
    for key, analysis_id in analyses.items():
        client.wait(analysis_id, progress=steps.following(f"{doing} {key}"))
    steps.done()


def _experiments(company: Company) -> tuple[ExperimentRecord, ...]:
    """Those of both businesses, the oldest first."""
    return tuple(sorted((*company.experiments, *company.business.experiments), key=lambda one: one.started_at))


def _begun_at(client: ApiClient) -> datetime:
    """When this load, or the interrupted one that it continues, began: the data end then."""
    for source in fact_sources():
        client.ensure("/v1/fact-sources", source)
    moments = [datetime.fromisoformat(source["created_at"]) for source in client.get("/v1/fact-sources")["items"]]
    return min(moments).replace(second=0, microsecond=0)


def _define(client: ApiClient, company: Company, steps: Steps) -> None:
    steps.begin("defining metrics, a North Star and experiments")
    for source in company.business.fact_sources:
        client.ensure("/v1/fact-sources", source)
    for metric in (*company.metrics, *company.business.metrics):
        client.ensure("/v1/metrics", metric)
    for series in company.series:
        client.ensure("/v1/series", series.spec)
    client.ensure("/v1/north-stars", {**company.north_star, "target": _target(company)})
    for experiment in _experiments(company):
        client.ensure("/v1/experiments", experiment.spec)
    steps.done()


def _start(client: ApiClient, experiments: Sequence[ExperimentRecord], steps: Steps) -> None:
    steps.begin("starting experiments")
    for experiment in experiments:
        client.move(experiment.spec["key"], "start", experiment.started_at)
        _ramp_up(client, experiment)
    steps.done()


def _ramp_up(client: ApiClient, experiment: ExperimentRecord) -> None:
    """Give the later stages their shares: an amendment between a pause and a resumption that lie in the past."""
    key = experiment.spec["key"]
    path = f"/v1/experiments/{key}/amendments"
    made = len(client.get(path)["items"]) if experiment.ramp else 0
    for stage, (at, shares) in enumerate(experiment.ramp):
        if stage >= made:
            client.move(key, "pause", at)
            arms = [{**arm, "weight": share} for arm, share in zip(experiment.spec["variants"], shares, strict=True)]
            client.post(path, {"reason": RAMP_REASON, "changes": {"variants": arms}})
        client.move(key, "resume", at)


def _target(company: Company) -> dict[str, Any]:
    """Grow the orders of the last four weeks by 15 % in a quarter."""
    since = company.ended_at - timedelta(weeks=4)
    events = company.events
    recent = (events["event"] == "order") & (
        events["occurred_at"].astype("datetime64[s]").astype(int) >= since.timestamp()
    )
    weekly = float(recent.sum()) / 4 * NORTH_STAR_GROWTH
    return {"value": float(round(weekly, -2)), "at": (company.ended_at + timedelta(weeks=13)).date().isoformat()}


def _expose(
    client: ApiClient, company: Company, experiments: Sequence[ExperimentRecord], stage: str, steps: Steps
) -> None:
    """The exposures of these experiments, of both businesses."""
    keys = [experiment.spec["key"] for experiment in experiments]
    for name, part in (("company", company.exposures), ("members", company.business.exposures)):
        mine = pc.is_in(pa.array(part["experiment_key"]), pa.array(keys)).to_numpy(zero_copy_only=False)
        steps.begin(f"ingesting {mine.sum():,} exposures")
        ingest(client, "exposures", f"{name}-{stage}", {column: values[mine] for column, values in part.items()})
        steps.done()


def _feed(client: ApiClient, company: Company, steps: Steps) -> None:
    for name, part in (("company", company.events), ("members", company.business.events)):
        steps.begin(f"ingesting {len(part['unit_id']):,} events")
        ingest(client, "events", name, part)
        steps.done()


def _analyse(client: ApiClient, company: Company, experiments: Sequence[ExperimentRecord], steps: Steps) -> None:
    """Stop and decide what has ended, and analyse all of these."""
    steps.begin("submitting analyses")
    analyses = {}
    for experiment in experiments:
        key = experiment.spec["key"]
        if experiment.ended_at is not None:
            client.move(key, "stop", experiment.ended_at)
        analyses[key] = str(client.post(f"/v1/experiments/{key}/analyses")["id"])
    steps.done()
    for experiment in experiments:
        key = experiment.spec["key"]
        client.wait(analyses[key], progress=steps.following(f"analysing {key}"))
        if experiment.ended_at is not None:
            _decide(client, company, key, experiment.ended_at)
        steps.done()


def _learn(client: ApiClient, company: Company, steps: Steps) -> None:
    """What the experiments so far teach about each metric, where they are enough."""
    steps.begin("learning priors from past experiments")
    learning = []
    for metric in (*company.metrics, *company.business.metrics):
        try:
            learning.append(str(client.post(f"/v1/metrics/{metric['key']}/prior")["id"]))
        except ApiProblem as problem:
            if problem.slug != "not-ready":
                raise
    for analysis_id in learning:
        client.wait(analysis_id)
    steps.done()


def _decide(client: ApiClient, company: Company, key: str, ended_at: datetime) -> None:
    """What the team chose on the evidence: ship what is better, roll back what harms, else iterate."""
    if client.get(f"/v1/experiments/{key}/decisions")["items"]:
        return
    result = client.get(f"/v1/experiments/{key}/result")
    rollouts = {
        launch.spec["experiment_key"]: launch.spec for launch in company.launches if launch.spec.get("experiment_key")
    }
    outcome = OUTCOMES.get(result["verdict"], "iterate")
    not_yet = outcome == "ship" and key not in rollouts
    if not_yet:
        outcome = "iterate"
    decision: dict[str, Any] = {
        "outcome": outcome,
        "reason": NOT_YET if not_yet else REASONS[outcome],
        "learnings": NOTES.get(key, LEARNINGS[outcome]),
        "decided_at": (ended_at + timedelta(days=1)).isoformat(),
    }
    if not_yet:
        decision["override_reason"] = NOT_YET
    if outcome == "ship":
        rollout = rollouts[key]
        decision |= {"shipped_variant": result["verdict_variant"], "launch_key": rollout["key"]}
        decision["coverage"] = rollout["rollout"][0]["coverage"]
    client.post(f"/v1/experiments/{key}/decisions", decision)
    if outcome == "ship":
        client.put(f"/v1/launches/{rollouts[key]['key']}", rollouts[key])


def _launch(client: ApiClient, launches: Sequence[LaunchRecord], steps: Steps) -> dict[str, str]:
    """Record the launches that no decision has made, and ask what those with a series did: analyses by launch."""
    steps.begin("recording launches")
    asked = {}
    for launch in launches:
        key = launch.spec["key"]
        client.ensure("/v1/launches", launch.spec)
        if launch.spec["measurements"]:
            asked[key] = str(client.post(f"/v1/launches/{key}/analyses")["id"])
    steps.done()
    return asked
