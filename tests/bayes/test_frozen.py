"""Frozen programs against compiled ones, on real samplers: the same draws, nothing of PyMC, no way to hang or crash."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stats.bayes.models.definition import ModelDefinition
from stats.bayes.sampling.bundle import Bundle, packed, unpacked
from stats.bayes.sampling.compiled import CompiledProgram, compile_program
from stats.bayes.sampling.contract import BundleRejected, Data, FitCancelled, Program, Sampling, SamplingFailed
from stats.bayes.sampling.frozen import FrozenProgram, freeze, load
from tests.patience import LONG
from tests.servers import REPOSITORY

pytestmark = pytest.mark.xdist_group("pymc")

ARMS = 3
SHORT = Sampling(chains=4, tune=300, draws=300)


def arms(size: int) -> Any:
    """Rates of arms, with rows beside them whose number belongs to no parameter."""
    import pymc as pm
    import pytensor.tensor as pt

    with pm.Model() as model:
        n, k = pm.Data("n", np.ones(size)), pm.Data("k", np.ones(size))
        rows = pm.Data("rows", np.ones(4))
        z = pm.Normal("z", 0.0, 1.0, shape=size)
        rate = pm.Deterministic("rate", pm.math.sigmoid(z))
        pm.Deterministic("lift", rate[1:] / rate[0])
        pm.Potential("data", (k * pt.log(rate) + (n - k) * pt.log1p(-rate)).sum() - 0.5 * ((rows - z[0]) ** 2).sum())
    return model


def scalar(size: int) -> Any:
    """One number measured once: the posterior is Normal(y / 2, 1 / sqrt(2))."""
    import pymc as pm

    with pm.Model() as model:
        y = pm.Data("y", np.array(0.0))
        z = pm.Normal("z", 0.0, 1.0)
        pm.Deterministic("doubled", 2.0 * z)
        pm.Potential("data", -0.5 * (y - z) ** 2)
    return model


def example(size: int) -> Data:
    return {"n": np.arange(10.0, 10.0 + size), "k": np.arange(1.0, 1.0 + size), "rows": np.linspace(-1.0, 1.0, 4)}


ARMS_DEFINITION = ModelDefinition("arms", 1, "", (), (ARMS,), arms, example, ("rate", "lift"))
SCALAR_DEFINITION = ModelDefinition("scalar", 1, "", (), (1,), scalar, lambda size: {"y": np.array(1.0)}, ("doubled",))
DATA = {"n": np.array([200.0, 210.0, 0.0]), "k": np.array([20.0, 42.0, 0.0]), "rows": np.array([-1.0, -1.5])}
SLOW = DATA | {"rows": np.zeros(300_000)}
"""Each gradient reads the rows: a fit of ten seconds, and no draw of it longer than some milliseconds."""


@pytest.fixture(scope="module")
def compiled() -> CompiledProgram:
    return compile_program(ARMS_DEFINITION, ARMS)


@pytest.fixture(scope="module")
def bundle(compiled: CompiledProgram) -> bytes:
    return freeze(compiled, ARMS_DEFINITION, ARMS)


@pytest.fixture(scope="module")
def frozen(bundle: bytes) -> FrozenProgram:
    return load(bundle)


@pytest.fixture(params=["compiled", "frozen"])
def program(request: pytest.FixtureRequest) -> Program:
    given: Program = request.getfixturevalue(request.param)
    return given


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python process of its own."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )


def assert_the_same_draws(frozen: FrozenProgram, compiled: CompiledProgram, data: Data) -> None:
    """The same start, steps and acceptances.

    Chains are compared while they are short: the last digit of compiled code depends on the models that its process
    compiled before (`stats.bayes.sampling.frozen`), and later draws show it.
    """
    brief = Sampling(chains=4, tune=2, draws=6)
    ours, theirs = (each.sample(data, brief, seed=7) for each in (frozen, compiled))
    assert list(ours.values) == list(theirs.values)
    for name in ours.values:
        np.testing.assert_allclose(ours.values[name], theirs.values[name], rtol=1e-6)


def test_draws_of_a_frozen_program_are_those_of_the_compiled_one(
    compiled: CompiledProgram, frozen: FrozenProgram
) -> None:
    assert frozen.made_for == ("arms", 1, ARMS)
    assert_the_same_draws(frozen, compiled, DATA)
    ours, theirs = (each.sample(DATA, SHORT, seed=7).values for each in (frozen, compiled))
    assert list(ours) == ["rate", "lift"]
    assert ours["rate"].shape == theirs["rate"].shape == (4, 300, ARMS)
    assert ours["lift"].shape == theirs["lift"].shape == (4, 300, ARMS - 1)
    np.testing.assert_array_equal(ours["rate"], frozen.sample(DATA, SHORT, seed=7).values["rate"])
    assert not np.array_equal(ours["rate"], frozen.sample(DATA, SHORT, seed=8).values["rate"])
    # 1200 draws count as 400 or more: the difference of two means stays below 5 of its standard errors.
    spread = ours["rate"].std(axis=(0, 1))
    assert (np.abs(ours["rate"].mean((0, 1)) - theirs["rate"].mean((0, 1))) < 5 * spread * np.sqrt(2 / 400)).all()


def test_a_scalar_model_freezes_and_its_posterior_is_the_closed_form() -> None:
    compiled = compile_program(SCALAR_DEFINITION, 1)
    frozen = load(freeze(compiled, SCALAR_DEFINITION, 1))
    assert_the_same_draws(frozen, compiled, {"y": np.array(3.0)})
    draws = frozen.sample({"y": np.array(3.0)}, SHORT, seed=1).values["doubled"]
    # 2 z ~ Normal(3, sqrt 2); 1200 draws count as 400 or more, so 5 standard errors are below 0.36.
    assert draws.shape == (4, 300)
    assert abs(draws.mean() - 3.0) < 0.36
    assert abs(draws.std() / np.sqrt(2.0) - 1.0) < 5 / np.sqrt(2 * 400)


LIGHT = """
import json, sys, time
begun = time.perf_counter()
import numpy as np
from stats.bayes.sampling.contract import Sampling
from stats.bayes.sampling.frozen import load
content = open(sys.argv[1], "rb").read()
started = time.perf_counter()
program = load(content)
loaded = time.perf_counter()
data = {name: np.array(values) for name, values in json.loads(sys.argv[2]).items()}
draws = program.sample(data, Sampling(chains=4, tune=300, draws=300), seed=7)
first = time.perf_counter()
load(content)
again = time.perf_counter()
def resident():  # `ru_maxrss` would be that of the process which forked this one
    if not sys.platform.startswith("linux"):
        return float("nan")
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
heavy = ("pymc", "pytensor", "arviz", "pandas", "numba", "nutpie", "scipy", "xarray", "pyarrow")
print(json.dumps({
    "heavy": [name for name in heavy if name in sys.modules],
    "sum": draws.values["rate"].sum(), "last": draws.values["lift"][-1, -1].tolist(),
    "import_s": started - begun, "load_s": loaded - started, "fit_s": first - loaded, "load_again_s": again - first,
    "cpu_s": time.process_time(), "rss_mb": resident(),
}))
"""


def test_a_process_without_pymc_makes_the_same_draws(
    bundle: bytes, frozen: FrozenProgram, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    (tmp_path / "arms").write_bytes(bundle)
    done = run(LIGHT, str(tmp_path / "arms"), json.dumps({name: values.tolist() for name, values in DATA.items()}))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    record_property("frozen program in a process of its own", answer)
    here = frozen.sample(DATA, SHORT, seed=7).values
    assert answer["heavy"] == []
    assert answer["sum"] == here["rate"].sum()
    assert answer["last"] == here["lift"][-1, -1].tolist()
    assert not answer["rss_mb"] >= 200  # 105 measured; with PyMC 400 and more


def test_arrays_that_no_parameter_depends_on_may_change_length(program: Program) -> None:
    # Ten thousand rows at -2 leave z[0] no choice; the rate is sigmoid(-2).
    rows = DATA | {"rows": np.full(10_000, -2.0)}
    draws = program.sample(rows, SHORT, seed=1).values["rate"][..., 0]
    assert abs(draws.mean() - 1 / (1 + np.exp(2.0))) < 0.001


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n": np.ones(2)}, r"n 2 \(built with 3\)"),
        ({"n": np.ones(4), "k": np.ones(4)}, r"n 4 \(built with 3\), k 4 \(built with 3\)|k 4.*n 4"),
        ({"n": np.ones(1)}, r"n 1 \(built with 3\)"),
        ({"n": np.ones((3, 1))}, "n have shape 3x1"),
        ({"m": np.ones(3)}, "has no data m"),
        ({"k": np.array([1.0, np.nan, 1.0])}, "k are not finite"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_sampling(
    program: Program, change: dict[str, np.ndarray], says: str
) -> None:
    begun = time.process_time()
    with pytest.raises(SamplingFailed, match=says):
        program.sample(DATA | change, SHORT, seed=1)
    assert time.process_time() - begun < 0.1  # CPU, not wall: a search for starting points takes longer


def test_missing_data_are_refused(program: Program) -> None:
    with pytest.raises(SamplingFailed, match="also needs data rows"):
        program.sample({"n": DATA["n"], "k": DATA["k"]}, SHORT, seed=1)


def test_data_without_any_possible_parameter_fail_in_words(program: Program) -> None:
    with pytest.raises(SamplingFailed, match="initialization points failed") as caught:
        program.sample(DATA | {"rows": np.full(2, 1e200)}, SHORT, seed=1)
    assert "backtrace" not in str(caught.value)


def test_cancelling_ends_the_sampler_and_its_threads(program: Program) -> None:
    seen: list[float] = []
    with pytest.raises(FitCancelled):
        program.sample(SLOW, Sampling(), seed=1, should_cancel=lambda: len(seen) >= 3, progress=seen.append)
    assert seen == sorted(seen)
    assert all(0.0 <= fraction < 1.0 for fraction in seen)
    used = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - used < 0.03


def test_a_fit_that_is_cancelled_before_it_starts_does_not_start(program: Program) -> None:
    with pytest.raises(FitCancelled):
        program.sample(SLOW, Sampling(), seed=1, should_cancel=lambda: True)


def test_patience_ends_and_leaves_nothing_running(program: Program) -> None:
    with pytest.raises(SamplingFailed, match=r"no result within 0\.2 s"):
        program.sample(SLOW, replace(Sampling(), patience_seconds=0.2), seed=1)
    used = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - used < 0.03


def test_what_a_callback_raises_ends_the_sampler_as_well(program: Program) -> None:
    def broken(fraction: float) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        program.sample(SLOW, Sampling(), seed=1, progress=broken)
    used = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - used < 0.03


def test_four_threads_on_one_program_give_what_each_gives_alone(program: Program) -> None:
    data = [DATA | {"k": np.array([20.0, 20.0 + 10 * i, 0.0])} for i in range(4)]

    def draws(i: int) -> np.ndarray:
        return program.sample(data[i], replace(SHORT, cores=1), seed=i).values["rate"]

    alone = [draws(i) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draws, range(4)))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert threading.active_count() < 20


ENDING = """
import sys, threading, time
import numpy as np
from stats.bayes.sampling.contract import FitCancelled, Sampling, SamplingFailed
from stats.bayes.sampling.frozen import load
program = load(open(sys.argv[1], "rb").read())
data = {"n": np.full(3, 9.0), "k": np.ones(3), "rows": np.zeros(300_000)}
ticks = []
if sys.argv[2] == "cancelled":
    try:
        program.sample(data, Sampling(), seed=1, should_cancel=lambda: len(ticks) > 1, progress=ticks.append)
    except FitCancelled:
        print("cancelled")
elif sys.argv[2] == "failed":
    try:
        program.sample(data | {"rows": np.full(3, 1e200)}, Sampling(), seed=1)
    except SamplingFailed:
        print("failed")
else:
    def fit():
        try:
            program.sample(data, Sampling(), seed=1, progress=ticks.append)
        except FitCancelled:
            pass
    threading.Thread(target=fit, daemon=True).start()
    while not ticks:
        time.sleep(0.01)
    print("abandoned")
"""


@pytest.mark.parametrize("how", ["cancelled", "failed", "abandoned"])
def test_an_interpreter_that_ends_with_a_sampler_does_not_crash(bundle: bytes, tmp_path: Path, how: str) -> None:
    (tmp_path / "arms").write_bytes(bundle)
    done = run(ENDING, str(tmp_path / "arms"), how)
    assert (done.returncode, done.stdout.strip()) == (0, how), done.stderr


def changed(bundle: bytes, header: dict[str, Any], parts: dict[str, bytes] | None = None) -> bytes:
    """A bundle that says something else, with the checksum of what it says."""
    content = unpacked(bundle)
    return packed(Bundle({**content.header, **header}, {**content.parts, **(parts or {})}))


def test_a_bundle_of_another_machine_or_version_is_rejected(bundle: bytes) -> None:
    made_on = unpacked(bundle).header["machine"]
    assert changed(bundle, {}) == bundle
    for name in made_on:
        with pytest.raises(BundleRejected, match=f"another {name}: elsewhere"):
            load(changed(bundle, {"machine": made_on | {name: "elsewhere"}}))


def test_a_damaged_bundle_is_rejected(bundle: bytes) -> None:
    for broken in (b"", b"x" * 200, bundle[:-1], bundle[: len(bundle) // 2], bundle + b"\0"):
        with pytest.raises(BundleRejected):
            load(broken)
    with pytest.raises(BundleRejected, match="header is not understood"):
        load(changed(bundle, {"parameters": "many"}))


def test_code_that_computes_other_numbers_is_rejected(bundle: bytes) -> None:
    content = unpacked(bundle)
    for part in ("example 0 logp", "shrunk 1 gradient", "example 2 expanded"):
        reference = np.frombuffer(content.parts[part]) * (1.0 + 1e-6)
        with pytest.raises(BundleRejected, match="self-test failed: it computes other numbers"):
            load(changed(bundle, {}, {part: reference.tobytes()}))


def test_code_whose_symbols_or_entry_are_missing_is_rejected(bundle: bytes) -> None:
    content = unpacked(bundle)
    with pytest.raises(BundleRejected, match="this process has no symbol_of_nobody"):
        load(changed(bundle, {"needs": [*content.header["needs"], "symbol_of_nobody"]}))
    with pytest.raises(BundleRejected, match="lacks the function"):
        load(changed(bundle, {"entries": dict.fromkeys(content.header["entries"], "nothing")}))


def test_an_example_that_does_not_fit_cannot_be_frozen(compiled: CompiledProgram) -> None:
    short = replace(ARMS_DEFINITION, example=lambda size: example(size) | {"n": np.ones(2)})
    with pytest.raises(BundleRejected, match="example's data do not fit"):
        freeze(compiled, short, ARMS)


@pytest.mark.simulation
def test_code_that_calls_back_into_python_cannot_be_frozen() -> None:
    def with_digamma(size: int) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        with pm.Model() as model:
            y = pm.Data("y", np.array(0.0))
            z = pm.Normal("z", 0.0, 1.0)
            pm.Deterministic("doubled", 2.0 * z)
            pm.Potential("data", -0.5 * (y - z) ** 2 - pt.gammaln(pt.exp(z)))
        return model

    definition = replace(SCALAR_DEFINITION, build=with_digamma)
    with pytest.raises(BundleRejected, match="calls back into the process"):
        freeze(compile_program(definition, 1), definition, 1)


def test_data_must_be_declared_as_floats() -> None:
    def with_integers(size: int) -> Any:
        import pymc as pm

        with pm.Model() as model:
            y = pm.Data("y", np.array(0))
            z = pm.Normal("z", 0.0, 1.0)
            pm.Deterministic("doubled", 2.0 * z)
            pm.Potential("data", -0.5 * (y - z) ** 2)
        return model

    with pytest.raises(TypeError, match="data y must be float64, not int"):
        compile_program(replace(SCALAR_DEFINITION, build=with_integers), 1)
