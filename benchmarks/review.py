"""How long a growth review takes end to end: two years, sixty experiments, a holdout, through a running service.

    python benchmarks/review.py [--fits 3] [--port 8481]

review_s       from the request to the stored document, as a client that asks every 20 ms sees it: the plan from the
               database, the ledger, its backtest and alternatives, the forecast, the programme. At most 60.
review_again_s the same with the workers warm: the median of `--fits`.
review_html_s  the report that can be mailed, from the stored document; and as PDF.
review_pdf_s
load_s         what it took to tell the service everything and to analyse the sixty experiments. Not limited.

Wall seconds: they are what a person waits for.
"""

import argparse
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

# The folder of a script comes first, and `warehouse` is also the name of a benchmark.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.cli.client import ApiClient
from app.cli.services import LocalService
from app.demo import listening
from app.demo.progress import shown
from stats.company.listening import Listening, generate

LIMITS = {"review_s": 60.0}


def load(client: ApiClient, told: Listening) -> None:
    """Everything but what follows from it: the reviews are what is measured."""
    with shown(Console(file=io.StringIO())) as steps:
        asked = listening.submit(client, told, steps)
        for analysis_id in listening.conclude(client, told, asked, steps).values():
            client.wait(analysis_id)


def review(client: ApiClient, spec: dict[str, object]) -> float:
    """Seconds from the request to the stored document of a review that nobody asked for before."""
    client.ensure("/v1/growth-reviews", spec)
    began = time.perf_counter()
    asked = client.post(f"/v1/growth-reviews/{spec['key']}/analyses")
    while True:
        state = client.get(f"/v1/analyses/{asked['id']}")
        if state["state"] == "succeeded":
            return time.perf_counter() - began
        if state["state"] in ("failed", "cancelled"):
            raise RuntimeError(str(state))
        time.sleep(0.02)


def report(client: ApiClient, key: str, kind: str) -> float:
    """Seconds until the whole report is there."""
    began = time.perf_counter()
    client.request("GET", f"/v1/growth-reviews/{key}/report", params={"format": kind})
    return time.perf_counter() - began


def measure(fits: int, port: int) -> dict[str, float]:
    """All figures, on a service of its own."""
    told = generate(datetime.now(UTC), seed=1)
    found: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory() as home,
        LocalService(Path(home), host="127.0.0.1", port=port) as service,
        ApiClient(service.url, service.sign_in_key(), timeout=600) as client,
    ):
        began = time.perf_counter()
        load(client, told)
        found["load_s"] = time.perf_counter() - began
        last = told.reviews[-1]
        taken = [review(client, {**last, "key": f"{last['key']}-{i}"}) for i in range(fits + 1)]
        found["review_s"], found["review_again_s"] = max(taken), statistics.median(taken[1:])
        for kind in ("html", "pdf"):
            found[f"review_{kind}_s"] = report(client, f"{last['key']}-0", kind)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", type=int, default=3)
    parser.add_argument("--port", type=int, default=8481)
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    found = measure(options.fits, options.port)
    for name, value in found.items():
        limit = f"<= {LIMITS[name]:g}  {'ok' if value <= LIMITS[name] else 'MISSED'}" if name in LIMITS else ""
        print(f"{name:16} {value:>8.2f}  {limit}".rstrip())
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
