"""FewPictures: a source with fewer labels."""

from __future__ import annotations

from spcnn_lightning.datamodules.pictures.base import Pictures, PictureSource, PictureSubset
from spcnn_lightning.datamodules.sources.views import first_of_each


class FewPictures(PictureSource):
    """A source with only n training pictures of each class; the test part stays whole.

    Args:
        source: Where they come from.
        per_class: n; of a class that has fewer, all.
        seed: Decides which. The pictures for a smaller n are among those for a larger.

    Raises:
        ValueError: If ``per_class`` is not positive.

    >>> from spcnn_lightning.datamodules.pictures import Digits
    >>> import numpy as np
    >>> np.bincount(FewPictures(Digits(), per_class=5).train().labels).tolist()
    [5, 5, 5, 5, 5, 5, 5, 5, 5, 5]
    """

    def __init__(self, source: PictureSource, per_class: int, seed: int = 0) -> None:
        if per_class < 1:
            raise ValueError(f"per_class is {per_class}: give at least 1 picture of each class")
        self.source, self.per_class, self.seed = source, per_class, seed

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The classes of the source."""
        return self.source.class_names

    @property
    def citation(self) -> str:  # type: ignore[override]
        """The citation of the source."""
        return self.source.citation

    @property
    def licence_text(self) -> str:  # type: ignore[override]
        """The licence of the source."""
        return self.source.licence_text

    @property
    def channels(self) -> int:  # type: ignore[override]
        """C."""
        return self.source.channels

    @property
    def background(self) -> float | tuple[float, ...]:  # type: ignore[override]
        """The background of the source."""
        return self.source.background

    @property
    def masked(self) -> bool:  # type: ignore[override]
        """Whether the source's pictures have masks."""
        return self.source.masked

    def check(self) -> None:
        """Check the source's files."""
        self.source.check()

    def train(self) -> PictureSubset:
        """Return the few training pictures, as a view."""
        pictures = self.source.train()
        chosen = first_of_each(pictures.labels, self.per_class, self.seed)
        return PictureSubset(pictures, chosen)

    def test(self) -> Pictures:
        """Return the whole test part."""
        return self.source.test()
