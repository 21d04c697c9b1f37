"""The command line says which models are compiled, and leaves alone what is there."""

import io
from pathlib import Path

from rich.console import Console

from app.cli.models import compile_models, models_to_compile, table_of_models
from experiments.settings import Settings
from workers.models.catalogue import bundle_folder, library
from workers.models.folder import key_of


def listed(settings: Settings) -> list[str]:
    written = io.StringIO()
    Console(width=200, file=written).print(table_of_models(settings))
    return written.getvalue().splitlines()


def test_every_model_is_listed_with_what_is_on_disk(tmp_path: Path) -> None:
    settings = Settings(model_cache_dir=tmp_path)
    here, *_ = library()
    bundle_folder(tmp_path).write(key_of(here), bytes(12_345))
    lines = listed(settings)
    for model in library():
        matching = [line for line in lines if f" {model.definition.name} " in line and f" {model.size} " in line]
        assert matching, model.definition.name
    assert sum("12,345" in line and "yes" in line for line in lines) == 1


def test_what_is_compiled_is_not_compiled_again(tmp_path: Path) -> None:
    folder = bundle_folder(tmp_path)
    wanted = models_to_compile(every_size=False)
    assert {model.definition.name for model in wanted} == {model.definition.name for model in library()}
    for model in wanted:
        folder.write(key_of(model), bytes(1000))
    lines = list(compile_models(Settings(model_cache_dir=tmp_path), wanted))
    assert [line.endswith(": 1,000 bytes, already there") for line in lines] == [True] * len(wanted)
