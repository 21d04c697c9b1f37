#!/usr/bin/env python3
"""Make .venv with exactly what requirements.lock says. Standard library only; runs on any Python >= 3.8.

    python3 scripts/bootstrap.py [--force] [--spark]

Finds a Python >= 3.12 by running the candidates (pyenv's shims and app stubs answer to a name and then fail), installs
with uv where uv is or can be had and with pip otherwise, checks every hash, and writes a stamp so that the next run
returns at once. Set PYTHON=/path/to/python to choose the interpreter yourself. --spark adds requirements-spark.lock.
"""

import glob
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
UV_VENV = ROOT / ".venv-uv"
WINDOWS = os.name == "nt"
BIN = "Scripts" if WINDOWS else "bin"
EXE = ".exe" if WINDOWS else ""
PYTHON = VENV / BIN / ("python" + EXE)
STAMP = VENV / ".northlift-stamp"
LOCK = ROOT / "requirements.lock"
SPARK_LOCK = ROOT / "requirements-spark.lock"
SPARK_STAMP = VENV / ".northlift-spark-stamp"
VEGA = ROOT / "app" / "pages" / "static" / "vega.js"
OLDEST, NEWEST = (3, 12), (3, 14)
UV_PIN = "uv==0.13.9"
FETCHED_PYTHON = "3.13"


class Failed(Exception):
    """A step did not work; the message tells the user what to do."""


def say(text: str) -> None:
    print("bootstrap: " + text, flush=True)


def run(command: List[str], quiet: bool = False) -> None:
    """Run a command in the repository; on failure raise with the end of its output."""
    done = subprocess.run(
        command,
        cwd=str(ROOT),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        universal_newlines=True,
    )
    if done.returncode:
        raise Failed("{} exited with {}\n{}".format(" ".join(command), done.returncode, (done.stdout or "")[-2000:]))


def version_of(python: str) -> Optional[Tuple[int, int]]:
    """(major, minor) of an interpreter that really runs, else None."""
    try:
        done = subprocess.run(
            [python, "-c", "import sys, venv; print(*sys.version_info[:2])"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            universal_newlines=True,
            timeout=60,
        )
        major, minor = done.stdout.split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def suits(python: str) -> bool:
    version = version_of(python)
    return version is not None and OLDEST <= version <= NEWEST


def candidates() -> Iterator[str]:
    """Interpreters worth trying, the most deliberate choice first."""
    if os.environ.get("PYTHON"):
        yield os.environ["PYTHON"]
    yield sys.executable
    names = ["python3.{}".format(minor) for minor in (13, 14, 12)] + ["python3", "python"]
    for name in names:
        found = shutil.which(name)
        if found:
            yield found
    home = os.path.expanduser("~")
    uv_data = os.environ.get("UV_PYTHON_INSTALL_DIR") or os.path.join(home, ".local", "share", "uv", "python")
    pyenv = os.environ.get("PYENV_ROOT") or os.path.join(home, ".pyenv")
    for minor in (13, 14, 12):
        for pattern in (
            "{}/versions/3.{}*/bin/python3".format(pyenv, minor),
            "{}/cpython-3.{}*/bin/python3".format(uv_data, minor),
            "/opt/homebrew/opt/python@3.{0}/bin/python3.{0}".format(minor),
            "/usr/local/opt/python@3.{0}/bin/python3.{0}".format(minor),
            "/opt/python*3.{0}*/bin/python3.{0}".format(minor),
            "/opt/python*/bin/python3.{0}".format(minor),
            "/opt/*/bin/python3.{0}".format(minor),
        ):
            for path in sorted(glob.glob(pattern), reverse=True):
                yield path
    if WINDOWS:
        for path in sorted(glob.glob(os.path.join(home, "AppData/Local/Programs/Python/Python31*/python.exe"))):
            yield path


def find_python() -> Optional[str]:
    seen = set()
    for python in candidates():
        if python not in seen:
            seen.add(python)
            if suits(python):
                return python
    return None


def find_uv(python: str) -> Optional[str]:
    """A uv that runs: from PATH, else a pinned one in a virtual environment of its own, else None."""
    own = str(UV_VENV / BIN / ("uv" + EXE))
    for uv in (shutil.which("uv"), own):
        if uv and works(uv):
            return uv
    say("installing {}".format(UV_PIN))
    try:
        run([python, "-m", "venv", str(UV_VENV)], quiet=True)
        pip = [str(UV_VENV / BIN / ("python" + EXE)), "-m", "pip"]
        run([*pip, "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", UV_PIN], quiet=True)
    except Failed as error:
        say("no uv, continuing with pip ({})".format(str(error).splitlines()[0]))
        return None
    return own if works(own) else None


def works(uv: str) -> bool:
    try:
        done = subprocess.run([uv, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def fetch_python(uv: str) -> str:
    """Let uv download an interpreter: the last resort, and the only step that leaves the package registry."""
    say("no Python {}.{} or newer found, fetching {} with uv".format(*OLDEST, FETCHED_PYTHON))
    run([uv, "python", "install", FETCHED_PYTHON], quiet=True)
    done = subprocess.run(
        [uv, "python", "find", "--managed-python", FETCHED_PYTHON], stdout=subprocess.PIPE, universal_newlines=True
    )
    python = done.stdout.strip()
    if not suits(python):
        raise Failed("uv reported success but {!r} does not run".format(python))
    return python


def install_with_uv(uv: str, python: str) -> None:
    if not PYTHON.exists():
        run([uv, "venv", "--quiet", "--python", python, str(VENV)], quiet=True)
    pip = [uv, "pip", "install", "--quiet", "--python", str(PYTHON)]
    run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(LOCK)], quiet=True)
    run([*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], quiet=True)


def install_with_pip(python: str) -> None:
    run([python, "-m", "venv", str(VENV)], quiet=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(LOCK)], quiet=True)
    run([*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], quiet=True)


def install_spark() -> None:
    """Spark, which comes as source only: built with the setuptools of the lock file, without fetching anything else."""
    uv = find_uv(str(PYTHON))
    pip = [uv, "pip"] if uv else [str(PYTHON), "-m", "pip"]
    chosen = ["--python", str(PYTHON)] if uv else []
    say("installing {}".format(SPARK_LOCK.name))
    options = ["--quiet", "--require-hashes", "--no-build-isolation"]
    run([*pip, "install", *chosen, *options, "-r", str(SPARK_LOCK)], quiet=True)


def install() -> None:
    """Fill .venv, creating it if there is none or if the one there does not run."""
    if VENV.exists() and not suits(str(PYTHON)):
        say("removing a .venv that does not run")
        shutil.rmtree(str(VENV))
    python = find_python()
    uv = find_uv(python or sys.executable)
    if python is None:
        if uv is None:
            raise Failed(
                "found neither Python {}.{} or newer nor a way to get it.\n"
                "Install one (python.org, your package manager, pyenv) and try again, or set PYTHON=/path/to/python.\n"
                "On Debian and Ubuntu the package python3-venv is needed as well.".format(*OLDEST)
            )
        python = fetch_python(uv)
    say("installing {} with Python {}.{} at {}".format(LOCK.name, *(version_of(python) or ()), python))
    if uv is not None:
        try:
            install_with_uv(uv, python)
            return
        except Failed as error:
            say("uv did not manage, trying pip: {}".format(error))
    install_with_pip(python)


def build_vega() -> None:
    """Bundle Vega, Vega-Lite and vega-embed from vl-convert's own copy: no CDN, no node, works offline."""
    say("building the chart bundle")
    VEGA.parent.mkdir(parents=True, exist_ok=True)
    draft = VEGA.with_name("vega.js.tmp")
    code = "import sys, vl_convert; open(sys.argv[1], 'w', encoding='utf-8').write(vl_convert.javascript_bundle())"
    run([str(PYTHON), "-c", code, str(draft)])
    os.replace(str(draft), str(VEGA))


def fingerprint() -> str:
    """Changes when the lock, the project file or the place of the repository changes."""
    digest = hashlib.sha256(str(ROOT).encode())
    for path in (LOCK, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def spark_is_current() -> bool:
    wanted = hashlib.sha256(SPARK_LOCK.read_bytes()).hexdigest()
    return SPARK_STAMP.exists() and SPARK_STAMP.read_text() == wanted


def main(arguments: List[str]) -> int:
    wanted = fingerprint()
    current = STAMP.exists() and PYTHON.exists() and STAMP.read_text() == wanted and "--force" not in arguments
    spark = "--spark" in arguments
    if current and VEGA.exists() and (spark_is_current() or not spark):
        return 0
    started = time.time()
    try:
        if not current:
            install()
        if not (current and VEGA.exists()):
            build_vega()
        if spark and not spark_is_current():
            install_spark()
            SPARK_STAMP.write_text(hashlib.sha256(SPARK_LOCK.read_bytes()).hexdigest())
    except Failed as error:
        print("bootstrap failed: {}".format(error), file=sys.stderr)
        return 1
    STAMP.write_text(wanted)
    say("ready in {:.0f} s".format(time.time() - started))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
