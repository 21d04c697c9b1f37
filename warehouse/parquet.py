"""Stored Parquet files as a relation of the embedded engine: loose batches and compacted ones, as of a time.

A compacted file holds the rows of several batches, each with `recorded_us`, when its batch was recorded (a loose file
has no such column: it is one batch). Compacted files come in `BUCKETS` per segment, by `bucket_expression`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from warehouse.engine import Parameters

BUCKETS: Final = 16
"""Files of a compacted segment; a power of two."""
RECORDED: Final = "recorded_us"
FILE_NAME: Final = "filename"
"""The column that `relation` adds with `file_names`."""
_COMPACTED: Final = re.compile(r"^(?P<bucket>\d\d)-of-16\.parquet$")


def bucket_of(path: Path) -> int | None:
    """The hash bucket whose units a compacted file holds; None for a loose file, which holds units of all buckets."""
    match = _COMPACTED.match(path.name)
    return int(match["bucket"]) if match else None


def bucket_expression(unit: str) -> str:
    """SQL of the bucket of a unit: the top four bits of the eighth byte of its id's MD5, the same in every version."""
    # A third of the time of `md5_number_upper`, which is the same eight bytes.
    return f"((md5_number({unit}) >> 60) & 15)::UTINYINT"


def bucket_file_name(bucket: int) -> str:
    """The name of a compacted file inside the folder of its segment."""
    return f"{bucket:02d}-of-{BUCKETS}.parquet"


def relation(
    files: Sequence[Path],
    parameters: Parameters,
    recorded_before_us: int | None = None,
    *,
    file_names: bool = False,
) -> str:
    """What follows FROM to read these files. `recorded_before_us` leaves out rows of batches recorded later.

    With `file_names` each row says which file it is from, in the column `FILE_NAME`.
    """
    named = f", filename = '{FILE_NAME}'" if file_names else ""
    read = f"read_parquet({parameters.add_paths(tuple(files))}, union_by_name = true{named})"
    if recorded_before_us is None or all(bucket_of(path) is None for path in files):
        return read
    return f"(SELECT * FROM {read} WHERE {RECORDED} IS NULL OR {RECORDED} <= {parameters.add(recorded_before_us)})"
