"""What the data engine costs at volume: one pass, refreshes, several experiments, compiled statements.

    python benchmarks/warehouse.py [--units 1e6] [--events 10e6] [--folder FOLDER] [--memory-mb 2048]

Figures are ratios of CPU seconds of this process, threads included, so that a loaded machine says the same; the size of
the data is an argument. The last line is JSON.

one_pass_vs_single   20 metrics (10 with a covariate) in 3 variants and 10 segments over one average metric alone.
one_pass_vs_queries  the same over twenty passes of one metric each.
scan_ratio           the same over a bare scan of the columns it reads.
compacted_ratio      the same pass over files compacted by unit, over that over a file per day.
compacted_scan_ratio the same pass over files compacted by unit, over a bare scan of these.
refresh_vs_full      a refresh on day 28 of what was kept on day 27, over a full pass.
shared_vs_alone      four experiments on the same events in one pass, over each alone.
ingest_vs_decode     by format: rows into the store over decoding the same bytes (benchmarks/warehouse_ingest.py).
ingest_vs_decode_and_write   the same over decoding them, and writing and flushing one Parquet file of them.
compile_s            the plan to the statement that a warehouse would run: building it and writing it as text.
compiled_vs_pass     that statement run by DuckDB on the same files, over the pass. Results are compared in any case.
spark_s              three of the metrics by a local Spark, wall time, 20,000 units; null without pyspark.
rss_mb               largest resident memory of a process that does one pass and nothing else.
"""

import argparse
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.warehouse_world import EXPERIMENT, World, in_tables, metrics, plan_of, write_world
from experiments.errors import DomainError
from stats.moment_set import MomentSet
from warehouse.data_slice import DataSlice
from warehouse.extract import extract_experiment

AIMS = {
    "one_pass_vs_single": 4.0,
    "refresh_vs_full": 0.1,
    "ingest_vs_decode": 3.0,
    "compile_s": 0.2,
}


def cpu() -> float:
    """CPU seconds of this process so far, threads included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed[T](what: str, run: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds that something took, and what it gave."""
    before, began = cpu(), time.perf_counter()
    found = run()
    used = cpu() - before
    print(f"  {what:<52} {used:8.2f} CPU s {time.perf_counter() - began:8.2f} s", flush=True)
    return used, found


class Benchmark:
    """The measurements, on one world; `figures` by name."""

    def __init__(self, world: World, memory_mb: int) -> None:
        self.world = world
        self.memory = f"{memory_mb}MB"
        self.data = world.slice()
        self.plan = plan_of(metrics())
        self.figures: dict[str, object] = {}

    def one(self, data: DataSlice) -> MomentSet:
        return extract_experiment(self.plan, data, threads=2, memory_limit=self.memory)

    def passes(self, singles: int) -> tuple[float, MomentSet]:
        """One pass, metrics alone, and a bare scan. Every metric once would tell no more than every third."""
        timed("a first pass, which imports", lambda: self.one(self.data))
        whole, found = timed("20 metrics, 3 variants, 10 segments", lambda: self.one(self.data))
        chosen = metrics()[:: max(1, 20 // singles)]
        each = []
        for spec in chosen:
            plan = plan_of([spec], segments=False)
            alone = timed(
                f"{spec.key} ({spec.kind}) alone",
                lambda plan=plan: extract_experiment(plan, self.data, threads=2, memory_limit=self.memory),  # type: ignore[misc]
            )
            each.append(alone[0])
        single = sum(each) / len(each)
        scan, _ = timed("bare scan", lambda: scanned(self.data))
        self.figures |= {
            "one_pass_cpu_s": whole,
            "single_cpu_s": single,
            "scan_cpu_s": scan,
            "one_pass_vs_single": whole / single,
            "one_pass_vs_queries": whole / (20 * single),
            "scan_ratio": whole / scan,
        }
        return whole, found

    def compacted(self, whole: float, found: MomentSet) -> None:
        cost, data = timed("compaction of everything", self.world.compacted)
        used, again = timed("the pass over compacted files", lambda: self.one(data))
        check(again, found)
        scan, _ = timed("bare scan of compacted files", lambda: scanned(data))
        self.figures |= {
            "compaction_cpu_s": cost,
            "compacted_cpu_s": used,
            "compacted_ratio": used / whole,
            "compacted_scan_ratio": used / scan,
        }

    def refresh(self, whole: float, found: MomentSet) -> None:
        from warehouse.state.refresh import extract_incrementally

        def refreshed(day: int) -> MomentSet:
            return extract_incrementally(
                self.plan, self.world.slice(day), threads=2, memory_limit=self.memory, fewest_exposures=0
            )

        built, _ = timed("the first refresh, on day 26, which keeps", lambda: refreshed(26))
        timed("the refresh of day 27", lambda: refreshed(27))
        used, last = timed("the refresh of day 28", lambda: refreshed(28))
        check(last, found)
        self.figures |= {"refresh_cpu_s": used, "refresh_vs_full": used / whole, "first_refresh_vs_full": built / whole}

    def shared(self) -> None:
        from warehouse.shared_pass import extract_experiments

        requests = [
            (plan_of(metrics()[number : number + 12 : 3], experiment=key), self.world.slice(experiment=key))
            for number, key in enumerate(self.world.exposures)
        ]
        alone = []
        total = 0.0
        for plan, data in requests:
            used, found = timed(
                f"{plan.experiment_key} alone, 4 metrics",
                lambda plan=plan, data=data: extract_experiment(plan, data, threads=2, memory_limit=self.memory),  # type: ignore[misc]
            )
            total += used
            alone.append(found)
        used, together = timed(
            "the four in one pass", lambda: extract_experiments(requests, threads=2, memory_limit=self.memory)
        )
        for one, other in zip(together, alone, strict=True):
            if isinstance(one, DomainError):
                raise one
            check(one, other)
        self.figures["shared_vs_alone"] = used / total

    def compiled(self, whole: float, found: MomentSet) -> None:
        from warehouse.engines.embedded import DuckDBEngine
        from warehouse.relational_moments import extract_relational, statement_text

        engine = DuckDBEngine(threads=2, memory_limit=self.memory)
        try:
            timed("a first statement, which imports", lambda: statement_text(self.plan, self.data, engine))
            looking, _ = timed(
                "levels, columns and the statement", lambda: statement_text(self.plan, self.data, engine)
            )
            self.figures["compile_s"] = looking - self._preparing()
            used, again = timed("the statement, run", lambda: extract_relational(self.plan, self.data, engine))
        finally:
            engine.close()
        check(again, found)
        self.figures["compiled_vs_pass"] = used / whole

    def _preparing(self) -> float:
        """What the levels and columns of the data cost, which are looked up before anything is compiled."""
        from concurrent.futures import ThreadPoolExecutor

        from warehouse.engine import connect
        from warehouse.experiment_moments import prepare

        with connect(threads=1, memory_limit=None) as connection, ThreadPoolExecutor(1) as pool:
            return timed("levels and columns", lambda: prepare(self.plan, self.data, connection, pool))[0]

    def ingest(self, rows: int) -> None:
        from benchmarks.warehouse_ingest import ingest_rates

        rates = timed(f"ingest of {rows:,} rows in every format", lambda: ingest_rates(rows))[1]
        for name, ratio in (
            ("ingest_vs_decode", "ratio"),
            ("ingest_vs_decode_and_write", "ratio_to_decode_and_write"),
        ):
            self.figures[name] = {kind: found[ratio] for kind, found in rates.items()}

    def spark(self) -> None:
        """The statement by a local Spark session, on a small world: it is the result that matters, not the volume."""
        if importlib.util.find_spec("pyspark") is None:
            self.figures["spark_s"] = None
            print("  no pyspark here: no Spark", flush=True)
            return
        from experiments.definitions import SparkConnection
        from warehouse.engines.opening import Access, open_engine
        from warehouse.relational_moments import extract_relational

        with tempfile.TemporaryDirectory() as name:
            world = write_world(Path(name), 20_000, 200_000, experiments=1)
            plan = plan_of(metrics()[::7])
            wanted = extract_experiment(plan, world.slice(), threads=2, memory_limit=self.memory)
            engine = open_engine(
                Access(SparkConnection(kind="spark", key="lake", remote="local[2]", parquet=world.tables()))
            )
            try:
                data = replace(world.slice(), exposure_files=(), event_files={})
                began = time.perf_counter()
                found = extract_relational(in_tables(plan), data, engine)
                self.figures["spark_s"] = time.perf_counter() - began
            finally:
                engine.close()
        check(found, wanted)
        print(f"  Spark gave the same in {self.figures['spark_s']:.1f} s", flush=True)


def scanned(data: DataSlice) -> None:
    """Every column that the pass needs, read and touched once."""
    connection = duckdb.connect(config={"threads": 2})
    facts = [str(path) for files in data.event_files.values() for path in files]
    shown = [str(path) for path in data.exposure_files]
    for columns, files in (
        ("max(unit_id), max(epoch_us(occurred_at)), max(value), max(p_kind)", facts),
        ("max(unit_id), max(variant_key), max(epoch_us(exposed_at)), max(segment_country)", shown),
    ):
        connection.execute(f"SELECT {columns} FROM read_parquet($files)", {"files": files}).fetchall()
    connection.close()


def check(found: MomentSet, wanted: MomentSet) -> None:
    """Raises where two ways to the same moments disagree."""
    np.testing.assert_array_equal(found.last.count, wanted.last.count)
    np.testing.assert_allclose(found.last.mean, wanted.last.mean, rtol=1e-9)
    np.testing.assert_allclose(found.last.comoment, wanted.last.comoment, rtol=1e-6, atol=1e-3)
    np.testing.assert_array_equal(np.sort(found.by_segment.count, axis=0), np.sort(wanted.by_segment.count, axis=0))


def only_a_pass(folder: Path, units: int, events: int, memory_mb: int) -> None:
    """For a process of its own: one pass over the world in a folder, and its memory."""
    world = write_world(folder, units, events)
    began = time.perf_counter()
    extract_experiment(plan_of(metrics()), world.slice(), threads=2, memory_limit=f"{memory_mb}MB")
    took = time.perf_counter() - began
    # Not `ru_maxrss`: that begins at what the parent had.
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    print(json.dumps({"rss_mb": peak / 1024, "wall_s": took}))


def memory_of_a_pass(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    command = [
        sys.executable, __file__, "--only-pass", "--folder", str(folder),
        "--units", str(arguments.units), "--events", str(arguments.events), "--memory-mb", str(arguments.memory_mb),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=float, default=1e6)
    parser.add_argument("--events", type=float, default=10e6)
    parser.add_argument("--folder", type=Path, help="where to keep the data; a temporary folder without it")
    parser.add_argument("--memory-mb", type=int, default=2048)
    parser.add_argument("--singles", type=int, default=5, help="how many metrics are measured alone")
    parser.add_argument("--skip", nargs="*", default=[], help="refresh, shared, compiled, ingest, spark, compacted")
    parser.add_argument("--only-pass", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    units, events = int(arguments.units), int(arguments.events)
    with tempfile.TemporaryDirectory(prefix="northlift-benchmark-") as temporary:
        folder = arguments.folder or Path(temporary)
        if arguments.only_pass:
            only_a_pass(folder, units, events, arguments.memory_mb)
            return
        print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
        _, world = timed(f"{units:,} units and {events:,} events written", lambda: write_world(folder, units, events))
        bench = Benchmark(world, arguments.memory_mb)
        whole, found = bench.passes(arguments.singles)
        steps: dict[str, Callable[[], None]] = {
            "compacted": lambda: bench.compacted(whole, found),
            "refresh": lambda: bench.refresh(whole, found),
            "shared": bench.shared,
            "compiled": lambda: bench.compiled(whole, found),
            "ingest": lambda: bench.ingest(300_000),
            "spark": bench.spark,
        }
        for name, step in steps.items():
            if name not in arguments.skip:
                step()
        bench.figures |= memory_of_a_pass(folder, arguments)
    for name, aim in AIMS.items():
        print(f"{name}: {bench.figures.get(name)} (aim {aim:g})")
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in bench.figures.items()}
    print(json.dumps({"units": units, "events": events, "experiment": EXPERIMENT, **rounded}))


if __name__ == "__main__":
    main()
