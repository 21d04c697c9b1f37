"""Growth reviews: what moved a North Star in a period, dated and kept (METHODS H6)."""

from datetime import date, timedelta
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from experiments.definitions.elements import Definition, Key

WEEKS_OF_A_YEAR: Final = 52
_A_WEEK: Final = timedelta(weeks=1)


class ReviewSpec(Definition):
    """A review of the weeks from `begins_on` up to, not including, `ends_on`: both Mondays.

    They are held against the same weeks a year earlier, or against as many weeks just before. `notes` and `next_bets`
    are what people add (Markdown).
    """

    key: Key
    name: str = Field(min_length=1, max_length=200)
    north_star_key: Key
    begins_on: date
    ends_on: date
    compare_with: Literal["year_earlier", "previous_period"] = "year_earlier"
    owner: str = Field(default="", max_length=200)
    notes: str = Field(default="", max_length=20000)
    next_bets: str = Field(default="", max_length=20000)
    engine: Literal["collapsed", "sampled"] = Field(
        default="collapsed", description="Importance sampling, or the sampled reference model (NUTS)"
    )

    @property
    def lag_weeks(self) -> int:
        """How many weeks earlier the weeks lie that those of the period are held against."""
        return WEEKS_OF_A_YEAR if self.compare_with == "year_earlier" else (self.ends_on - self.begins_on) // _A_WEEK

    @model_validator(mode="after")
    def _whole_weeks(self) -> Self:
        if self.begins_on.weekday() or self.ends_on.weekday():
            raise ValueError("begins_on, ends_on: weeks begin on Mondays")
        if not _A_WEEK <= self.ends_on - self.begins_on <= 53 * _A_WEEK:
            raise ValueError("ends_on: a review is about 1 to 53 weeks")
        return self
