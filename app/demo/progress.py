"""How far the load of the demo is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


@dataclass(frozen=True, slots=True)
class Steps:
    """The progress bar of the load."""

    bar: Progress
    task: TaskID

    def begin(self, what: str) -> None:
        self.bar.update(self.task, description=what)

    def following(self, what: str) -> Callable[[str, float], None]:
        """What tells the bar at which stage an analysis is."""
        return lambda stage, _: self.begin(f"{what}: {stage}")

    def expect(self, steps: int) -> None:
        self.bar.update(self.task, total=steps)

    def done(self) -> None:
        self.bar.advance(self.task)


@contextmanager
def shown(console: Console) -> Iterator[Steps]:
    """A bar that is there while the company is loaded."""
    columns = (
        TextColumn("{task.description:46}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        yield Steps(bar, bar.add_task("imagining a company", total=None))
