"""A real Chromium in front of the real service: API, worker and queue in processes of their own."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from app.cli.client import ApiClient
from app.cli.services import LocalService
from tests.servers import skip_or_fail

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := Path("/usr/bin") / name).exists()),
    None,
)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The browser's program; without one these tests skip, or fail where they are required."""
    if CHROMIUM is None:
        skip_or_fail("no Chromium in /usr/bin; `make browser-install` says how to get one", "NORTHLIFT_REQUIRE_BROWSER")
    return CHROMIUM


@pytest.fixture(scope="session")
def service(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with LocalService(tmp_path_factory.mktemp("browser"), host="127.0.0.1", port=port) as running:
        yield running


@pytest.fixture(scope="session")
def key(service: LocalService) -> str:
    """An administrator's key, made before Playwright occupies the thread's event loop."""
    return service.sign_in_key()


@pytest.fixture(scope="session")
def client(service: LocalService, key: str) -> Iterator[ApiClient]:
    """The program that sends data, beside the person at the browser."""
    with ApiClient(service.url, key) as client:
        yield client


@pytest.fixture(scope="module")
def browser(chromium: Path, key: str) -> Iterator[Browser]:
    """One browser per module: while Playwright runs, no other event loop can run in this thread."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield launched
        launched.close()


class Complaints(list[str]):
    """What the browser's console said that a healthy page does not cause."""


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest.fixture
def context(browser: Browser, service: LocalService) -> Iterator[BrowserContext]:
    opened = browser.new_context(base_url=service.url, viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(60_000)
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext, complaints: Complaints) -> Page:
    """A tab whose dialogs are confirmed and whose errors are kept."""
    tab = context.new_page()
    tab.on("dialog", lambda dialog: dialog.accept())
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    return tab
