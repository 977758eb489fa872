"""A training that takes a given time, for comparisons of networks of unlike cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from trained import Trained, train

SHORT, LONGER = 10, 60


class TimedRun:
    """One network on one data set.

    Time is processor time, of training alone: steps are counted first, on a short run. The
    learning rate goes down to zero along the config's schedule, which must have a ``T_max``.

    Args:
        config: Name of a config.
        words: Options of ``spcnn fit``.
        folder: For logs and checkpoints.
    """

    def __init__(self, config: str, words: Sequence[str], folder: Path) -> None:
        self.config, self.folder = config, folder
        self.words = [*words, "--trainer.max_epochs=-1", "--model.interval=step"]

    def steps_in(self, seconds: float) -> int:
        """Return how many training steps take so long, by the difference of two short runs."""
        ends = []
        for steps in (SHORT, SHORT, LONGER):  # the first one warms up
            start = time.process_time()
            self.train(steps)
            ends.append(time.process_time() - start)
        return max(1, int(seconds * (LONGER - SHORT) / max(ends[2] - ends[1], 1e-3)))

    def train(self, steps: int, words: Sequence[str] = ()) -> Trained:
        """Train for so many steps, with these options besides."""
        length = [f"--trainer.max_steps={steps}", f"--model.lr_scheduler.init_args.T_max={steps}"]
        return train(self.config, [*self.words, *words, *length], self.folder)
