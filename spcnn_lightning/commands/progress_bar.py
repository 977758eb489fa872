"""A bar that says how far reading a source has come."""

from __future__ import annotations

from typing import TextIO

from spcnn_lightning.datamodules.preparing import Progress

WIDTH = 30


class ProgressBar:
    """One line for each part, drawn again and again; in a file, one line for each tenth."""

    def __init__(self, stream: TextIO, things: str = "characters") -> None:
        self.things = things
        self.stream, self.redraws = stream, stream.isatty()
        self.part = ""
        self.tenth = -1
        self.open_line = False

    def show(self, progress: Progress) -> None:
        """Draw how far a part has come, or tell what was left out of it."""
        if progress.message:
            self.end_line()
            print(f"left out: {progress.message}", file=self.stream)
            return
        share = progress.done / progress.total
        if progress.part != self.part:
            self.end_line()
            self.part, self.tenth = progress.part, -1
        if self.redraws or int(10 * share) > self.tenth:
            self.tenth = int(10 * share)
            bar = ("#" * int(WIDTH * share)).ljust(WIDTH, "-")
            text = f"{self.part:5} {bar} {share:4.0%}  {progress.characters:,} {self.things}"
            print(f"\r{text}" if self.redraws else text, end="", file=self.stream, flush=True)
            self.open_line = True
            if not self.redraws:
                self.end_line()

    def end_line(self) -> None:
        """Leave the bar as it is; what follows begins a line of its own."""
        if self.open_line:
            print(file=self.stream)
        self.open_line = False
