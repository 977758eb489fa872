"""WriterFold and FewLabels: the same characters, held out or thinned out otherwise."""

import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import (
    FewLabels,
    PenDigits8,
    SimulatedHanzi,
    StrokeSet,
    WriterFold,
)

SMALL = SimulatedHanzi(classes=7, train_writers=5, test_writers=4)


def rows(strokes: StrokeSet) -> list[tuple[int, bytes]]:
    return sorted(
        (c.label, c.points.tobytes()) for c in map(strokes.__getitem__, range(len(strokes)))
    )


def test_each_writer_is_held_out_once_and_never_trained_on_in_that_fold() -> None:
    seen: list[tuple[int, bytes]] = []
    for fold in range(3):
        view = WriterFold(SMALL, fold, folds=3)
        train, test = view.train(), view.test()
        assert train.writers is not None
        assert test.writers is not None
        assert not set(train.writers) & set(test.writers)
        assert set(test.writers % 3) == {fold}
        assert len(train) + len(test) == 7 * 9
        seen += rows(test)
    assert sorted(seen) == sorted(rows(SMALL.train()) + rows(SMALL.test()))


def test_folds_of_the_training_part_leave_the_test_part_out() -> None:
    view = WriterFold(SMALL, 1, folds=3, training_only=True)
    assert sorted(rows(view.train()) + rows(view.test())) == sorted(rows(SMALL.train()))
    assert set(view.test().writers % 3) == {1}  # type: ignore[operator]


def test_few_labels_takes_so_many_of_each_class_and_more_of_the_same() -> None:
    few, more = FewLabels(PenDigits8(), 5, seed=3), FewLabels(PenDigits8(), 20, seed=3)
    assert np.bincount(few.train().labels).tolist() == [5] * 10
    assert np.bincount(more.train().labels).tolist() == [20] * 10
    assert set(rows(few.train())) < set(rows(more.train()))
    assert len(few.test()) == 3498


def test_few_labels_depend_on_the_seed_and_come_from_the_whole_file() -> None:
    chosen = [rows(FewLabels(PenDigits8(), 5, seed).train()) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    # The digits of the file come in runs of one writer: the choice must not be its beginning.
    labels = PenDigits8().train().labels
    first = {np.flatnonzero(labels == digit)[:5].max() for digit in range(10)}
    view = FewLabels(PenDigits8(), 5).characters("train")
    assert view.indices.max() > max(first)  # type: ignore[attr-defined]


def test_a_class_with_fewer_keeps_all() -> None:
    assert np.bincount(FewLabels(SMALL, 99).train().labels).tolist() == [5] * 7


def test_views_pass_on_what_the_source_says() -> None:
    for view in (WriterFold(SMALL, 0), FewLabels(SMALL, 1)):
        assert view.class_names == SMALL.class_names
        assert view.citation == SMALL.citation
        assert view.licence_text == SMALL.licence_text
        assert view.num_classes == 7


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match="fold is 5 and folds 5"):
        WriterFold(SMALL, 5)
    with pytest.raises(ValueError, match="per_class is 0"):
        FewLabels(SMALL, 0)
    with pytest.raises(DataError, match="PenDigits8 does not say who wrote what"):
        WriterFold(PenDigits8(), 0).train()
    two_people = SimulatedHanzi(classes=2, train_writers=1, test_writers=1)
    with pytest.raises(DataError, match="fold 6 of 7 leaves the test part empty"):
        WriterFold(two_people, 6, folds=7).test()
