"""Throw-away environments for engines whose pinned dependencies exclude ours, kept in the user's cache folder."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "northlift-benchmarks"
SETUP_SECONDS = 600


class Unavailable(Exception):
    """An environment could not be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Incumbent:
    """A PyPI release and the script that runs it: `script` reads JSON inputs, and prints one line of JSON.

    `newest` is the newest Python (minor version) that the release's pinned dependencies have wheels for.
    """

    package: str
    script: str
    oldest: int
    newest: int


INCUMBENTS = {
    "gbstats": Incumbent("gbstats", "run_gbstats.py", 9, 11),
    "tea_tasting": Incumbent("tea-tasting", "run_tea_tasting.py", 12, 14),
}


def measure(name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """What the incumbent's script says about `inputs`. Raises `Unavailable`."""
    incumbent = INCUMBENTS[name]
    python = _environment(incumbent)
    single = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(python), str(HERE / incumbent.script)],
        input=json.dumps(inputs),
        capture_output=True,
        text=True,
        env=single,
        check=False,
    )
    if done.returncode != 0:
        raise Unavailable(f"{incumbent.script} failed: {_last_line(done.stderr)}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _environment(incumbent: Incumbent) -> Path:
    folder = CACHE / incumbent.package
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if ready.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    base = _interpreter(incumbent)
    print(f"making an environment for {incumbent.package} with {base} (once)", file=sys.stderr)
    _run([base, "-m", "venv", str(folder)])
    _run([str(python), "-m", "pip", "install", "--quiet", incumbent.package])
    ready.touch()
    return python


def _interpreter(incumbent: Incumbent) -> str:
    if incumbent.oldest <= sys.version_info.minor <= incumbent.newest:
        return sys.executable
    for minor in range(incumbent.newest, incumbent.oldest - 1, -1):
        for found in (f"/usr/bin/python3.{minor}", shutil.which(f"python3.{minor}")):
            # A shim may be there for a version that is not.
            if found and subprocess.run([found, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
                return found
    wanted = f"3.{incumbent.oldest} to 3.{incumbent.newest}"
    raise Unavailable(f"{incumbent.package} needs a Python from {wanted}, and there is none here")


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SETUP_SECONDS, check=False)
    except subprocess.TimeoutExpired as late:
        raise Unavailable(f"{command[1:4]} took more than {SETUP_SECONDS} s") from late
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command[1:])}: {_last_line(done.stderr)}")


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
