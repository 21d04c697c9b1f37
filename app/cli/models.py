"""Compiled models of this machine: which there are, and having them made before a worker needs them."""

from collections.abc import Iterator

from rich.table import Table

from experiments.settings import Settings
from workers.models.catalogue import bundle_folder, first_sizes, library
from workers.models.compiling import compile_into, make_bundle
from workers.models.folder import key_of
from workers.models.messages import SizedModel


def table_of_models(settings: Settings) -> Table:
    """Every model in every size; bytes where its code is on disk."""
    folder = bundle_folder(settings.model_cache_dir)
    table = Table("model", "version", "size", "compiled", "bytes")
    for model in library():
        size = folder.size(key_of(model))
        compiled = ("no", "") if size is None else ("yes", f"{size:,}")
        table.add_row(model.definition.name, str(model.definition.version), str(model.size), *compiled)
    return table


def models_to_compile(*, every_size: bool) -> tuple[SizedModel, ...]:
    """What an image should come with: each model in its smallest size, or in all of them."""
    return library() if every_size else first_sizes()


def compile_models(settings: Settings, models: tuple[SizedModel, ...]) -> Iterator[str]:
    """Compile what is not on disk, one after the other; a line for each."""
    folder = bundle_folder(settings.model_cache_dir)
    compile_into(folder)
    for model in models:
        name = f"{model.definition.name}, size {model.size}"
        if (size := folder.size(key_of(model))) is not None:
            yield f"{name}: {size:,} bytes, already there"
            continue
        _, reason = make_bundle(folder, model)
        size = folder.size(key_of(model))
        yield f"{name}: {size:,} bytes" if size is not None else f"{name}: compiled when it is needed, because {reason}"
