"""The shell blocks of a document, run in order in one bash, and the output that the document shows of them.

A ```sh block is run; a ```text or ```json block right after it is its output. ```shell blocks are for reading only.
A line `…` in an output stands for any lines.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers import REPOSITORY

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_END = "==== end of block"
_VARYING = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<hash>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)"), "<time>"),
    (re.compile(r"\blocal-[0-9a-f]{6}\b"), "<key name>"),
    (re.compile(r'"request_id": ?"[0-9a-f]{16}"'), '"request_id": "<id>"'),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "http://127.0.0.1:8321"),
)
_NUMBER = re.compile(r"(?<![\w<])[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w>])")


@dataclass(frozen=True, slots=True)
class Block:
    """A shell block; `shown` is None where the document shows no output."""

    line: int
    code: str
    shown: str | None


def shell_blocks(document: Path) -> list[Block]:
    """All ```sh blocks of a document in order."""
    text = document.read_text(encoding="utf-8")
    fences = list(_FENCE.finditer(text))
    blocks = []
    for position, fence in enumerate(fences):
        if fence[1] != "sh":
            continue
        following = fences[position + 1] if position + 1 < len(fences) else None
        adjacent = following is not None and not text[fence.end() : following.start()].strip()
        shown = following[2] if following is not None and adjacent and following[1] in ("text", "json") else None
        blocks.append(Block(text[: fence.start()].count("\n") + 1, fence[2], shown))
    return blocks


def run(blocks: Sequence[Block], environment: Mapping[str, str]) -> list[tuple[int, str]]:
    """Exit code and output of every block, run in the repository."""
    script = "".join(f"{block.code}\nprintf '\\n%s\\n' \"{_END} $?\"\n" for block in blocks)
    ran = subprocess.run(
        ["bash", "-s"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb", **environment},
        timeout=240,
    )
    outputs = re.split(rf"^{_END} (\d+)$", ran.stdout, flags=re.MULTILINE)
    assert len(outputs) == 2 * len(blocks) + 1, f"bash ended early: {ran.stdout[-2000:]}{ran.stderr[-2000:]}"
    errors = ran.stderr.strip()
    assert not errors, errors
    return [(int(code), output) for output, code in zip(outputs[:-1:2], outputs[1::2], strict=True)]


def assert_shows(shown: str, output: str) -> None:
    """The document's output is what came: words exactly, numbers to 1e-6, ids and times not at all."""
    expected, found = _lines(shown), _lines(output)
    if "…" in expected:
        cut = expected.index("…")
        tail = expected[cut + 1 :]
        assert "…" not in tail, "one … per output"
        expected, found = expected[:cut] + tail, found[:cut] + found[len(found) - len(tail) :]
    assert [_NUMBER.sub("#", line) for line in found] == [_NUMBER.sub("#", line) for line in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert _numbers(ours) == pytest.approx(_numbers(theirs), rel=1e-6), theirs


def _lines(text: str) -> list[str]:
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def _numbers(line: str) -> list[float]:
    return [float(number) for number in _NUMBER.findall(line)]


def relative_links(documents: Iterable[Path]) -> list[tuple[Path, str]]:
    """Every link and image of the documents that leads to a file of the repository."""
    link = re.compile(r"\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"")
    found = []
    for document in documents:
        for match in link.finditer(_FENCE.sub("", document.read_text(encoding="utf-8"))):
            target = (match[1] or match[2]).partition("#")[0]
            if target and "://" not in target and not target.startswith("mailto:"):
                found.append((document, target))
    return found
