"""InkML: which traces a character is made of, what their values mean, and who wrote them."""

import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import InkML
from spcnn_lightning.datamodules.sources.parsing import writer_number


def as_lists(character):
    return [stroke.tolist() for stroke in character]


def test_symbols_of_a_formula_are_groups_of_traces(read_sample):
    source = read_sample("CROHME")
    strokes = source.train()
    assert source.class_names == ("=", "x")
    assert strokes.labels.tolist() == [1, 0]
    assert as_lists(strokes[0]) == [[[1, 10], [5, 12]], [[1, 12], [5, 10], [6, 9]]]
    assert as_lists(strokes[1]) == [[[3, 20]]]
    assert len(set(strokes.writers.tolist())) == 1
    assert InkML(source.root).class_names == ("$x=$",), "unit='file' takes the label of the file"


def test_mathwriting_has_time(read_sample):
    strokes = read_sample("MathWriting").train()
    assert as_lists(strokes[0]) == [[[60, 50.5], [61.25, 52]], [[62, 53]]]
    assert strokes[0].time.tolist() == [0, 17, 40]


def test_inkml_differences_are_summed_and_contexts_looked_up(read_sample):
    text = """<ink><annotation type="truth">a</annotation><definitions>
    <context id="pen"><inkSource><traceFormat><channel name="F"/><channel name="X"/>
    <channel name="T" units="s"/><channel name="Y"/></traceFormat></inkSource></context>
    </definitions>
    <trace contextRef="#pen">7 1125 .5 18432, 8 '23 !1'43,9"7 2"-8,*3 3-5</trace></ink>"""
    one = read_sample("MathWriting", text.encode()).train()[0]
    # X: 1125, then +23, then the change grows by 7, then by 3; Y likewise from 18432 by 43.
    assert one.points[:, 1].tolist() == [1125, 1148, 1178, 1211]
    assert one.points[:, 0].tolist() == [18432, 18475, 18510, 18540]
    assert one.time.tolist() == [0, 500, 1500, 2500]
    assert one.pressure.tolist() == [7, 8, 9, 9]


@pytest.mark.parametrize(
    ("units", "milliseconds"), [("s", 4000), ("ms", 4), ("us", 0.004), ("ns", 4e-6)]
)
def test_time_is_in_milliseconds(units, milliseconds, read_sample, sample_files):
    text = sample_files.MATHWRITING.replace('"ms"', f'"{units}"').replace("61.25 17", "61.25 4")
    strokes = read_sample("MathWriting", text.encode()).train()
    assert strokes[0].time[1] == pytest.approx(milliseconds)


def write_inks(root, *writers):
    (root / "train").mkdir(exist_ok=True)
    for number, writer in enumerate(writers):
        who = f'<annotation type="writer">{writer}</annotation>' if writer else ""
        text = f'<ink><annotation type="truth">a</annotation>{who}<trace>1 2</trace></ink>'
        (root / "train" / f"{number}.inkml").write_text(text)
    return root


def test_writers_are_told_apart_by_their_annotation(tmp_path):
    writers = InkML(write_inks(tmp_path, "anna", "ben", "anna")).train().writers
    assert writers.tolist() == [writer_number(name) for name in ("anna", "ben", "anna")]


def test_without_annotation_there_is_no_writer(tmp_path):
    """Files by one person have different names, and files of one name are by different people."""
    assert InkML(write_inks(tmp_path, None, None)).train().writers is None
    root = write_inks(tmp_path, "anna", None)
    with pytest.raises(DataError, match="1 of 2 characters have no writer"):
        InkML(root).train()
    assert InkML(root, keep_writers=False).train().writers is None


def test_the_pen_in_the_air_leaves_no_ink(read_sample, sample_files):
    text = sample_files.CROHME.replace('<trace id="1">', '<trace id="1" type="penUp">')
    root = read_sample("CROHME", text.encode()).root
    symbols, formula = InkML(root, unit="group").train(), InkML(root).train()
    assert as_lists(symbols[0]) == [[[1, 10], [5, 12]]]
    assert as_lists(formula[0]) == [[[1, 10], [5, 12]], [[3, 20]]]


@pytest.mark.parametrize(
    ("attributes", "points"),
    [
        ('from="2"', [[5, 10], [6, 9]]),
        ('to="2"', [[1, 12], [5, 10]]),
        ('from="2" to="2"', [[5, 10]]),
        ('from="1" to="3"', [[1, 12], [5, 10], [6, 9]]),
    ],
)
def test_a_view_may_show_a_part_of_a_trace(attributes, points, read_sample, sample_files):
    text = sample_files.CROHME.replace('DataRef="1"', f'DataRef="1" {attributes}')
    strokes = read_sample("CROHME", text.encode()).train()
    assert as_lists(strokes[0]) == [[[1, 10], [5, 12]], points]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ('from="0"', "points 0 to 3, expected a range from 1 to 3"),
        ('to="4"', "points 1 to 4, expected a range from 1 to 3"),
        ('from="3" to="2"', "points 3 to 2, expected"),
        ('from="1:2"', "a traceView from='1:2', expected the number of a point"),
        ('to=""', "a traceView to='', expected"),
    ],
)
def test_a_view_of_points_that_are_not_there_is_refused(
    attributes, message, read_sample, sample_files
):
    text = sample_files.CROHME.replace('DataRef="1"', f'DataRef="1" {attributes}')
    source = read_sample("CROHME", text.encode())
    with pytest.raises(DataError, match=rf"1\.inkml: line 1 \(byte 0\): traceGroup 1.*{message}"):
        source.train()
