"""What stands between data and compiled code: names, shapes, memory, starting points, names of bundles."""

import importlib
import linecache
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from stats.bayes.models.definition import ModelDefinition
from stats.bayes.sampling.bundle import Bundle, packed, unpacked
from stats.bayes.sampling.contract import BundleRejected, SamplingFailed
from stats.bayes.sampling.fingerprint import fingerprint
from stats.bayes.sampling.inputs import Inputs, Record
from stats.bayes.sampling.machine import LIBRARIES, machine
from stats.bayes.sampling.starts import Starts
from tests.servers import REPOSITORY

SHAPES: dict[str, tuple[int, ...]] = {"n": (3,), "centre": (), "grid": (2, 3)}
INPUTS = Inputs(SHAPES, SHAPES, frozenset({3}))
DATA = {"n": np.ones(3), "centre": np.array(0.5), "grid": np.zeros((2, 3))}


def test_data_arrive_as_contiguous_floats_in_the_order_of_the_model() -> None:
    given = {"grid": np.asfortranarray(np.arange(6).reshape(2, 3)), "centre": np.array(2), "n": np.ones(3, dtype=bool)}
    checked = INPUTS.checked(given)
    assert list(checked) == ["n", "centre", "grid"]
    assert all(array.dtype == np.float64 and array.flags.c_contiguous for array in checked.values())
    assert checked["grid"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert checked["centre"].shape == ()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"n": DATA["n"]}, "also needs data centre, grid"),
        (DATA | {"k": np.ones(3)}, "has no data k"),
        (DATA | {"n": np.ones((3, 1))}, "n have shape 3x1, the model was built with 3"),
        (DATA | {"centre": np.ones(1)}, "centre have shape 1, the model was built with scalar"),
        (DATA | {"n": np.array([1, np.nan, 1])}, "n are not finite"),
        (DATA | {"n": np.array([1, 1, np.inf])}, "n are not finite"),
        (DATA | {"n": np.array(["1", "2", "3"])}, "n are not numbers"),
    ],
)
def test_data_that_no_model_can_read_are_refused_by_name(data: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(SamplingFailed, match=says):
        INPUTS.checked(data)


def fit(inputs: Inputs, **shapes: tuple[int, ...]) -> bool:
    try:
        inputs.checked({name: np.zeros(shapes.get(name, built)) for name, built in inputs.built.items()})
    except SamplingFailed as error:
        assert "do not fit the model" in str(error)
        return False
    return True


def test_lengths_of_parameters_are_fixed_and_the_others_keep_together() -> None:
    built = {"units": (3,), "effect": (2, 3), "rows": (4,), "weights": (4,), "constants": (4,), "prior": (1, 4)}
    same = Inputs(built, built, frozenset({3}))
    assert fit(same)
    assert not fit(same, units=(2,))
    assert not fit(same, units=(4,), effect=(2, 4))
    assert fit(same, effect=(5, 3))
    assert fit(same, rows=(9,), weights=(9,)), "the prior and constants may have been four long by chance"
    assert not fit(same, rows=(9,), weights=(8,))
    assert fit(same, prior=(7, 4))
    shown = Inputs(built, built | {"rows": (6,), "weights": (6,)}, frozenset({3}))
    assert fit(shown, rows=(9,), weights=(9,))
    assert not fit(shown, rows=(9,)), "the example shows that rows and weights change together"


def test_an_example_may_be_as_long_as_a_parameter_by_chance() -> None:
    inputs = Inputs({"rows": (5,)}, {"rows": (3,)}, frozenset({3}))
    assert fit(inputs, rows=(8,))


def test_a_record_holds_addresses_sizes_and_shapes() -> None:
    data = INPUTS.checked(DATA)
    record = Record(data)
    addresses = [array.ctypes.data for array in data.values()]
    assert record.words.tolist() == [*addresses, 3, 1, 6, 3, 2, 3]
    assert record.address == record.words.ctypes.data


def test_starts_follow_their_seed_and_stay_within_one_of_the_centre() -> None:
    starts = Starts(np.array([0.0, 5.0]))
    assert starts(1).tolist() == starts(1).tolist()
    assert starts(1).tolist() != starts(2).tolist()
    around = np.array([starts(seed) for seed in range(200)]) - starts.centre
    assert np.abs(around).max() <= 1.0
    assert np.abs(around).max() > 0.95  # 400 uniform draws all within 0.95: chance 1e-9


def test_a_bundle_returns_what_went_in() -> None:
    bundle = Bundle({"model": ["x", 1, 3]}, {"code": b"\x00\x7fELF", "empty": b"", "centre": np.arange(3.0).tobytes()})
    content = unpacked(packed(bundle))
    assert content == bundle
    assert content.array("centre", (3,)).tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(BundleRejected, match="centre are not an array"):
        content.array("centre", (4,))


def test_every_truncation_and_every_flipped_byte_of_a_bundle_is_noticed() -> None:
    whole = packed(Bundle({"model": ["x", 1, 3]}, {"code": bytes(range(64))}))
    for k in range(len(whole)):
        with pytest.raises(BundleRejected):
            unpacked(whole[:k])
        with pytest.raises(BundleRejected):
            unpacked(whole[:k] + bytes([whole[k] ^ 1]) + whole[k + 1 :])


def test_the_machine_is_its_libraries_and_its_processor() -> None:
    here = machine()
    assert set(LIBRARIES) < set(here)
    assert all(here.values())
    assert {"processor", "processor features", "python"} < set(here)


HELPER = "def scaled(x):\n    return 2 * x\n"
MODEL = """\
from project_of_test.helper import scaled

WIDTH = 1

def build(size):
    from project_of_test import late
    return scaled(size) + WIDTH + late.SHIFT
"""


@pytest.fixture
def build_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[int], object]]:
    """Writes a small project and imports its `build` afresh."""

    def written(model: str = MODEL, helper: str = HELPER, late: str = "SHIFT = 0\n") -> Callable[[int], object]:
        package = tmp_path / "project_of_test"
        package.mkdir(exist_ok=True)
        for name, text in {"__init__": "", "model": model, "helper": helper, "late": late}.items():
            (package / f"{name}.py").write_text(text)
        for name in [name for name in sys.modules if name.startswith("project_of_test")]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        linecache.clearcache()
        module: ModuleType = importlib.import_module("project_of_test.model")
        build: Callable[[int], object] = module.build
        return build

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return written


def test_a_fingerprint_changes_with_all_that_code_is_made_from(
    build_from: Callable[..., Callable[[int], object]],
) -> None:
    definition = ModelDefinition("x", 1, "", (), (3, 5), build_from(), lambda size: {}, ("p",))
    prints = [
        fingerprint(definition, 3),
        fingerprint(definition, 5),
        fingerprint(replace(definition, name="y"), 3),
        fingerprint(replace(definition, version=2), 3),
        fingerprint(replace(definition, kept=("p", "q")), 3),
    ]
    again = fingerprint(replace(definition, build=build_from(), story="told anew"), 3)
    for changed in (
        {"model": MODEL.replace("WIDTH = 1", "WIDTH = 3")},
        {"helper": HELPER.replace("2 *", "3 *")},
        {"late": "SHIFT = 1\n"},
    ):
        prints.append(fingerprint(replace(definition, build=build_from(**changed)), 3))
    assert again == prints[0]
    assert len(set(prints)) == len(prints)


def test_a_fingerprint_changes_with_the_target_of_the_compiler() -> None:
    program = (
        "from stats.bayes.models.definition import ModelDefinition\n"
        "from stats.bayes.sampling.fingerprint import fingerprint\n"
        "import sys\n"
        "def build(size): ...\n"
        "print(fingerprint(ModelDefinition('x', 1, '', (), (3,), build, dict, ()), 3))\n"
        "print(*[name for name in ('pymc', 'pytensor', 'numba', 'nutpie', 'scipy', 'pandas') if name in sys.modules])\n"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PATH": "", **target},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")
        for target in ({}, {}, {"NUMBA_CPU_NAME": "x86-64-v3"})
    ]
    assert answers[0][0] == answers[1][0] != answers[2][0]
    assert answers[0][1] == "", "a name is found without the libraries that compile"
