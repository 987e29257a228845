"""The screen of a sweep: standard output, whatever becomes of it."""

import contextlib
from collections.abc import Iterator

from rich.console import Console


class Screen(Console):
    """Shows text as it is, even where it looks like markup.

    Once the reader has gone, nothing is shown any more, and later output is dropped.
    """

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)

    @contextlib.contextmanager
    def may_go(self) -> Iterator[None]:
        """Continue after the block, even if the terminal is closed meanwhile."""
        try:
            yield
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()
