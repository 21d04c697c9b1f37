"""Erasing units from what was refused: dead letters, and the reports of batches, which quote what they refuse.

Nobody can say of a row that was refused whose it is, so a letter goes where an id stands in it as a value or as a word.
"""

import contextlib
import json
import os
import re
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import anyio

from experiments import ingest_batch
from experiments.database import Database
from experiments.settings import Settings
from warehouse.dead_letters import dead_letter_file

ERASED: Final = "the text was deleted with the rows of a unit"
_QUOTED: Final = 60
"""Reports quote so many characters of a value."""


class Mentions:
    """Which of some ids stand in a text."""

    def __init__(self, unit_ids: Collection[str]) -> None:
        self._ids = frozenset(unit_ids)
        self._words = {unit_id: _word(unit_id) for unit_id in unit_ids}

    def within(self, text: str) -> set[str]:
        """Ids that are a value of the text's JSON, or stand in it with nothing of a word around them."""
        found = {unit_id for unit_id, pattern in self._words.items() if pattern.search(text)}
        if "\\" in text:  # escapes hide letters
            with contextlib.suppress(ValueError, RecursionError):
                found |= _values(json.loads(text)) & self._ids
        return found


def _word(unit_id: str) -> re.Pattern[str]:
    forms = {unit_id, unit_id.replace('"', '""'), json.dumps(unit_id)[1:-1], repr(unit_id)[1:-1]}
    if len(unit_id) > _QUOTED:
        forms.add(unit_id[:_QUOTED])
    either = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?:{either})(?![\w-])")


def _values(document: Any) -> set[str]:
    if isinstance(document, dict):
        return {text for value in document.values() for text in _values(value)}
    if isinstance(document, list):
        return {text for value in document for text in _values(value)}
    return set() if document is None or isinstance(document, bool) else {str(document)}


async def erase_refused(
    database: Database, settings: Settings, unit_ids: Mapping[uuid.UUID, str]
) -> dict[uuid.UUID, int]:
    """Delete refused rows that mention a unit, by erasure; how many of each. Doing it again changes nothing."""
    mentions = Mentions(set(unit_ids.values()))
    counts: dict[str, int] = dict.fromkeys(unit_ids.values(), 0)
    async with database.read() as session:
        names = sorted(await ingest_batch.dead_letter_names(session))
    for name in names:
        gone = await anyio.to_thread.run_sync(_without, dead_letter_file(settings.data_dir, name), mentions)
        for unit_id, count in gone.items():
            counts[unit_id] += count
    async with database.read() as session:
        reports = [
            (batch_id, cleaned)
            for batch_id, errors in await ingest_batch.reports_with_errors(session)
            if (cleaned := [_without_quotes(error, mentions) for error in errors]) != errors
        ]
    if reports:
        async with database.write() as session:
            for batch_id, cleaned in reports:
                await ingest_batch.replace_errors(session, batch_id=batch_id, errors=cleaned)
    return {erasure_id: counts[unit_id] for erasure_id, unit_id in unit_ids.items()}


def _without(path: Path, mentions: Mentions) -> dict[str, int]:
    """Rewrite a file without the letters that mention a unit; how many went by unit.

    The file is replaced under its name: whoever has it open reads the old one to its end.
    """
    gone: dict[str, int] = {}
    kept = []
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                letter = json.loads(line)
                found = mentions.within(letter["received"]) | mentions.within(letter["detail"])
                for unit_id in found:
                    gone[unit_id] = gone.get(unit_id, 0) + 1
                if not found:
                    kept.append(line)
    except FileNotFoundError:
        return {}
    if gone:
        made = path.with_name(f".{uuid.uuid4().hex}")
        handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(kept)
            file.flush()
            os.fsync(file.fileno())
        os.replace(made, path)
    return gone


def _without_quotes(error: dict[str, Any], mentions: Mentions) -> dict[str, Any]:
    return error | {"detail": ERASED} if mentions.within(str(error.get("detail", ""))) else error
