"""Which North Star a launch or an experiment is about, in a company that has several."""

from collections.abc import Collection
from typing import Any

from experiments.definitions import LaunchSpec
from experiments.tables import Experiment


def launch_is_about(north_star_keys: Collection[str], *, launch: LaunchSpec, experiment: Experiment | None) -> bool:
    """By what the launch says, else by what its experiment says.

    A launch that names none is about every one: whoever ships something blind did not say what it should move.
    """
    said: str | None = launch.north_star_key
    if said is None and experiment is not None:
        said = experiment.spec.get("north_star_key")
    return said is None or said in north_star_keys


def experiment_is_about(north_star_key: str, metric_keys: Collection[str], experiment: Experiment) -> bool:
    """By what it says, else by whether it measures the North Star or an input: `metric_keys`."""
    said: str | None = experiment.spec.get("north_star_key")
    measured: list[dict[str, Any]] = experiment.spec.get("metrics", [])
    if said is not None:
        return said == north_star_key
    return any(item["metric_key"] in metric_keys for item in measured)
