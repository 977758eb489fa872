"""What docs/data.md says, run and looked up."""

import re

from spcnn_lightning.datamodules import pictures, sources
from spcnn_lightning.datamodules.pictures import PictureSource


def test_every_source_is_listed(repository):
    text = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    for name in set(sources.__all__) - {"StrokeSource"}:
        assert f"`{name}`" in text
    for name in pictures.__all__:
        if issubclass(getattr(pictures, name), PictureSource):
            assert f"`{name}`" in text


def test_the_program_of_a_source_of_your_own_runs(repository):
    text = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(program, names)
    assert names["Ticks"]().test()[0].points.tolist() == [[4, 0], [9, 3], [0, 6]]
