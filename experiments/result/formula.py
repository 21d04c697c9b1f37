"""What a North Star's formula was found to do wrong, as shown by pages and API."""

from typing import Literal

from pydantic import AwareDatetime

from experiments.result.elements import Document


class FormulaDefect(Document):
    """One defect of a formula in words (METHODS G8).

    `part` is the input or the denominator that it is about, empty for the whole formula. `share` is that of the weeks
    at which it shows, of those in which all denominators are positive unless it is about one; without weeks it is of
    imagined positive values. `variation` and `chance_not_positive` are of
    denominators: the spread around a straight line over the mean, and what a normal distribution makes of both.
    """

    code: Literal["direction_conflict", "denominator_crosses_zero", "denominator_near_zero", "falls_with_scale"]
    part: str
    detail: str
    remedy: str
    share: float
    variation: float | None
    chance_not_positive: float | None


class FormulaDefects(Document):
    """The defects of a North Star's formula. `weeks` is how many weeks of the inputs they were judged by.

    With no weeks only the definition was judged: directions and scale, at positive values.
    """

    north_star_key: str
    north_star_version: int
    formula: str
    weeks: int
    begins_at: AwareDatetime | None
    ends_at: AwareDatetime | None
    defects: list[FormulaDefect]
    methods: list[str]
