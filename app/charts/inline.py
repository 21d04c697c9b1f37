"""Tiny pictures drawn on the server as SVG, for lists: sparklines and mini intervals. CSS has the colours."""

from collections.abc import Sequence

from markupsafe import Markup, escape


def sparkline(values: Sequence[float | None], *, label: str, width: int = 96, height: int = 28) -> Markup:
    """A line through the known values, a dot at the last one; gaps stay gaps. Empty when fewer than two are known."""
    known = [(position, value) for position, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return Markup("")
    low, high = min(value for _, value in known), max(value for _, value in known)
    span = (high - low) or 1.0
    step = (width - 8) / max(len(values) - 1, 1)

    def point(position: int, value: float) -> tuple[float, float]:
        return 4 + position * step, height - 4 - (value - low) / span * (height - 8)

    path, previous = "", -2
    for position, value in known:
        x, y = point(position, value)
        path += f"{'L' if position == previous + 1 else 'M'}{x:.1f} {y:.1f}"
        previous = position
    x, y = point(*known[-1])
    return Markup(
        f'<svg class="spark" role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}"><path class="spark-line" d="{path}"/>'
        f'<circle class="spark-dot" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/></svg>'
    )


def mini_interval(
    lift: float | None,
    lower: float | None,
    upper: float | None,
    *,
    tone: str,
    label: str,
    reach: float,
    width: int = 120,
    height: int = 20,
) -> Markup:
    """A lift with its interval on an axis from -reach to +reach, zero in the middle; arrows where it leaves."""
    if lift is None or lower is None or upper is None or reach <= 0:
        return Markup("")
    middle = height / 2

    def x(value: float) -> float:
        return 4 + (max(-1.0, min(1.0, value / reach)) + 1) / 2 * (width - 8)

    arrows = ""
    if lower < -reach:
        arrows += f'<path class="mini-arrow" d="M6 {middle - 4} L1 {middle} L6 {middle + 4}"/>'
    if upper > reach:
        arrows += (
            f'<path class="mini-arrow" d="M{width - 6} {middle - 4} L{width - 1} {middle} L{width - 6} {middle + 4}"/>'
        )
    return Markup(
        f'<svg class="mini mini-{escape(tone)}" role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}"><line class="mini-zero" x1="{width / 2}" x2="{width / 2}" y1="1" '
        f'y2="{height - 1}"/><line class="mini-range" x1="{x(lower):.1f}" x2="{x(upper):.1f}" y1="{middle}" '
        f'y2="{middle}"/>{arrows}<circle class="mini-point" cx="{x(lift):.1f}" cy="{middle}" r="3.6"/></svg>'
    )


def share_bar(share: float, *, label: str, width: int = 140, height: int = 12) -> Markup:
    """A bar that fills as much of its track as the share says."""
    filled = max(0.0, min(1.0, share)) * width
    return Markup(
        f'<svg class="share-bar" role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}"><rect class="share-track" width="{width}" height="{height}" rx="3"/>'
        f'<rect class="share-fill" width="{filled:.1f}" height="{height}" rx="3"/></svg>'
    )


def share_interval(
    share: float | None, lower: float | None, upper: float | None, *, label: str, width: int = 200, height: int = 16
) -> Markup:
    """A share as a bar on a track from 0 to 1, and its interval as a line with ends over it."""
    if share is None or lower is None or upper is None:
        return Markup("")
    left, right, end = 2 + lower * (width - 4), 2 + upper * (width - 4), 2 + share * (width - 4)
    middle = height / 2
    return Markup(
        f'<svg class="step-bar" role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" '
        f'preserveAspectRatio="xMinYMid" '
        f'width="{width}" height="{height}"><rect class="share-track" width="{width}" height="{height}" rx="3"/>'
        f'<rect class="share-fill" width="{end:.1f}" height="{height}" rx="3"/>'
        f'<path class="step-halo" d="M{left:.1f} {middle}H{right:.1f}"/>'
        f'<path class="step-range" d="M{left:.1f} {middle}H{right:.1f}M{left:.1f} {middle - 4}v8M{right:.1f} '
        f'{middle - 4}v8"/></svg>'
    )
