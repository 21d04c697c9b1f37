"""A product team's whole road, as they walk it: from signing in to a launch on the North Star's curve."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from app.cli.client import ApiClient
from tests.browser.conftest import Complaints

pytestmark = pytest.mark.browser

SOURCES = ("visit", "purchase")
METRICS: list[dict[str, Any]] = [
    {
        "key": "walk_orders",
        "name": "Orders per person",
        "kind": "mean",
        "measure": {"fact_source": "purchase"},
        "window_days": None,
        "pre_period_days": 0,
    },
    {
        "key": "walk_visits",
        "name": "Visits per person",
        "kind": "mean",
        "measure": {"fact_source": "visit"},
        "window_days": None,
        "pre_period_days": 0,
    },
    {
        "key": "walk_orders_per_visit",
        "name": "Orders per visit",
        "kind": "ratio",
        "numerator": {"fact_source": "purchase"},
        "denominator": {"fact_source": "visit"},
        "window_days": None,
        "pre_period_days": 0,
    },
]
NORTH_STAR = {
    "key": "walk_north_star",
    "name": "Orders every week",
    "metric_key": "walk_orders",
    "formula": "walk_visits * walk_orders_per_visit",
    "input_metrics": [{"metric_key": "walk_visits"}, {"metric_key": "walk_orders_per_visit"}],
    "target": {"value": 500, "at": "2099-12-31"},
}
PEOPLE = 400


def define(client: ApiClient) -> None:
    for source in SOURCES:
        client.ensure("/v1/fact-sources", {"kind": "events", "key": source, "event": source})
    for metric in METRICS:
        client.ensure("/v1/metrics", metric)
    client.ensure("/v1/north-stars", NORTH_STAR)


def send(client: ApiClient, stream: str, rows: list[dict[str, Any]], batch_id: str) -> None:
    body = "\n".join(json.dumps(row) for row in rows).encode()
    client.ingest(stream, body, batch_id=batch_id, content_type="application/x-ndjson")


def event(name: str, unit: str, at: datetime) -> dict[str, Any]:
    return {"event": name, "unit_id": unit, "occurred_at": at.isoformat()}


def history(now: datetime) -> list[dict[str, Any]]:
    """Twelve weeks of visits, every second with an order."""
    return [
        event(name, f"old-{person}", now - timedelta(days=7 * week + person % 5, hours=3))
        for week in range(12)
        for person in range(60 - 2 * week)
        for name in (("visit", "purchase") if person % 2 else ("visit",))
    ]


def people(now: datetime) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Exposures and events: everybody visits, a third of the control and half of the treatment buys."""
    exposures, events = [], []
    for person in range(PEOPLE):
        treated, unit = person % 2 == 1, f"person-{person}"
        exposures.append(
            {
                "experiment_key": "walk",
                "unit_id": unit,
                "variant_key": "treatment" if treated else "control",
                "exposed_at": now.isoformat(),
            }
        )
        after = now + timedelta(milliseconds=10)
        events.append(event("visit", unit, after))
        if (person // 2) % (2 if treated else 3) == 0:
            events.append(event("purchase", unit, after))
    return exposures, events


def sign_in(page: Page, key: str) -> None:
    page.goto("/sign-in")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")


def test_a_team_walks_from_signing_in_to_a_launch_on_the_north_star_page(
    page: Page, key: str, client: ApiClient, complaints: Complaints
) -> None:
    define(client)
    now = datetime.now(UTC)
    send(client, "events", history(now), "walk-history")
    sign_in(page, key)

    # Register.
    page.get_by_role("link", name="Experiments", exact=True).click()
    page.get_by_role("link", name="New experiment").first.click()
    page.get_by_label("Name", exact=True).first.fill("Walk the road")
    page.locator("#key").fill("walk")
    page.get_by_label("Hypothesis").fill("People who walk it buy more.")
    page.locator("#metric-0-metric_key").select_option("walk_orders")
    page.locator("#metric-0-mde").fill("10")
    page.locator("#north_star_key").select_option("walk_north_star")
    page.get_by_role("button", name="Register experiment").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Walk the road")

    # Start, ingest, analyse, read.
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("No result yet")).to_be_visible()
    exposures, events = people(datetime.now(UTC))
    send(client, "exposures", exposures, "walk-exposures")
    send(client, "events", events, "walk-events")
    page.wait_for_timeout(50)  # so that the analysis' data_as_of lies after the last event
    page.get_by_role("button", name="Analyse now").click()
    expect(page.locator(".verdict-sentence")).to_contain_text("Orders per person", timeout=120_000)
    expect(page.locator("#verdict")).to_contain_text(f"{PEOPLE}")
    expect(page.get_by_role("heading", name="Impact on the company")).to_be_visible()
    page.locator('[data-chart="forest"]').scroll_into_view_if_needed()
    expect(page.locator('[data-chart="forest"] svg')).to_be_visible(timeout=30_000)

    # Stop, decide.
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped").first).to_be_visible()
    page.get_by_role("radio", name="Ship").check()
    page.locator("#shipped_variant").select_option("treatment")
    page.get_by_label("Reason", exact=True).fill("More people buy.")
    why = page.get_by_label("Why not as recommended")
    if why.is_visible():
        why.fill("This walk ends with a launch.")
    page.get_by_label("What was learned").fill("Walking helps.")
    page.get_by_role("button", name="Record decision").click()
    expect(page.get_by_role("link", name="walk", exact=True)).to_be_visible()

    # The launch on the North Star.
    page.goto("/?north_star=walk_north_star")
    page.get_by_role("button", name="Refresh").click()
    launches = page.locator(".launch-list")
    for _ in range(60):
        if launches.count():
            break
        page.wait_for_timeout(1000)
        page.reload()
    expect(launches).to_contain_text("Walk the road")
    expect(page.locator('[data-chart="north-star-curve"] svg')).to_be_visible()
    expect(page.get_by_text("Walking helps.")).to_be_visible()
    assert complaints == []


@pytest.mark.parametrize("width", [390, 1440])
def test_no_page_is_wider_than_the_screen_and_none_breaks_its_own_policy(
    page: Page, key: str, client: ApiClient, complaints: Complaints, width: int
) -> None:
    define(client)
    sign_in(page, key)
    page.set_viewport_size({"width": width, "height": 900})
    addresses = ["/", "/experiments", "/experiments/new", "/planning", "/launches", "/catalogue"]
    addresses += ["/programme", "/holdouts", "/holdouts/new"]
    addresses += [f"/experiments/{item['key']}" for item in client.get("/v1/experiments")["items"]]
    for address in addresses:
        page.goto(address)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
    assert complaints == []


def test_filtering_the_list_changes_the_address_without_loading_the_page_again(
    page: Page, key: str, complaints: Complaints
) -> None:
    sign_in(page, key)
    page.goto("/experiments")
    page.evaluate("window.stillHere = true")
    page.get_by_label("Status").select_option("archived")
    page.wait_for_url("**status=archived*")
    expect(page.get_by_text("No experiment matches")).to_be_visible()
    assert page.evaluate("window.stillHere")
    assert complaints == []


def test_a_theme_chosen_by_hand_is_remembered_and_the_keyboard_reaches_the_content_first(page: Page, key: str) -> None:
    page.emulate_media(color_scheme="light")
    sign_in(page, key)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.goto("/experiments")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
