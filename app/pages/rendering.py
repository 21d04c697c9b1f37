"""From a template and its values to a response: one Jinja environment, escaped by default, strict about names."""

from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.charts.inline import mini_interval, share_bar, share_interval, sparkline
from app.charts.numbers import finding, plain, tone
from app.charts.pulled import in_words
from app.pages import formats, launch_words, plan_words, programme_words, review_words, words
from app.pages.beliefs_view import PRIORS
from app.pages.experiment_options import DEFAULTS
from app.pages.fault_words import fault_words
from app.pages.headers import SECURITY_HEADERS
from app.pages.recipe_words import recipe
from app.pages.static_files import static_url

environment: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=["jinja2.ext.do"],
)
environment.filters.update(
    number=formats.number,
    change=formats.change,
    lift_of=formats.lift_of,
    plain=plain,
    gain=formats.gain,
    probability=formats.probability,
    share=formats.share,
    points=formats.points,
    sentence=formats.sentence,
    fault_words=fault_words,
    spread=formats.spread,
    unbroken=formats.unbroken,
    p_value=formats.p_value,
    p_equals=formats.p_equals,
    coded=formats.coded,
    day=formats.day,
    moment=formats.moment,
    plural=formats.plural,
    reason=words.reason,
    titled=words.titled,
)
environment.globals.update(
    static_url=static_url,
    words=words,
    plan_words=plan_words,
    launch_words=launch_words,
    review_words=review_words,
    programme_words=programme_words,
    defaults=DEFAULTS,
    prior_names=PRIORS,
    between=formats.between,
    levels=formats.levels,
    measured_share=formats.measured_share,
    differences=formats.differences,
    in_words=in_words,
    recipe=recipe,
    days=formats.days,
    sparkline=sparkline,
    mini_interval=mini_interval,
    share_bar=share_bar,
    share_interval=share_interval,
    tone=tone,
    finding=finding,
)


def render(
    request: Request, template: str, *, status: int = 200, headers: dict[str, str] | None = None, **values: Any
) -> HTMLResponse:
    """The page. `browser` (who is signed in, or None) is set by `app.pages.access` on the request."""
    values.setdefault("browser", getattr(request.state, "browser", None))
    values.setdefault("path", request.url.path)
    body = environment.get_template(template).render(**values)
    return HTMLResponse(body, status_code=status, headers={**SECURITY_HEADERS, **(headers or {})})
