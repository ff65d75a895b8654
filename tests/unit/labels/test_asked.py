"""Tables of samples that people label: what comes back, and what is forgotten."""

from dataclasses import replace
from pathlib import Path

import pytest

from mke_ray.data.sources import Placed, SourceRow
from mke_ray.errors import ConfigError
from mke_ray.labels.asked import (
    AskedSample,
    AskRecord,
    MoreProbe,
    forget_asked,
    read_answers,
    records_of,
    table_of,
)
from mke_ray.schema import LabelKind, LabelSpace, sample_id
from mke_ray.storage import open_root

SPACE = LabelSpace(("cat", "dog"))
SAMPLES = tuple(
    AskedSample(f"q1-{n:04d}", sample_id(f"{n}.mp4"), f"{n}.mp4", None, None, f"g{n}", "agree")
    for n in range(20)
)
RECORD = AskRecord("q1", "settle", "fit", 0, 1.5, {"agree": 1.0}, SAMPLES)


def filled(folder, labels, *, delimiter=",", encoding="utf-8"):
    lines = table_of(SAMPLES).splitlines()
    rows = [lines[0], *(line + label for line, label in zip(lines[1:], labels, strict=True))]
    path = folder / "labels.csv"
    path.write_text("\n".join(rows).replace(",", delimiter), encoding=encoding)
    return str(path)


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig")])
def test_what_spreadsheets_save_is_read(tmp_path, delimiter, encoding):
    table = filled(tmp_path, ["cat", "?", *["dog"] * 18], delimiter=delimiter, encoding=encoding)
    answers = read_answers([table], [RECORD], SPACE)
    assert answers[SAMPLES[0].sample_id] == (0,)
    assert answers[SAMPLES[1].sample_id] is None
    assert len(answers) == 20


def test_several_classes_are_joined_by_a_bar(tmp_path):
    table = filled(tmp_path, ["cat|dog", *["dog"] * 19])
    answers = read_answers([table], [RECORD], LabelSpace(SPACE.classes, LabelKind.MULTI))
    assert answers[SAMPLES[0].sample_id] == (0, 1)


def test_a_table_that_is_not_there_or_no_text_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.csv: there is no such file"):
        read_answers([str(tmp_path / "none.csv")], [RECORD], SPACE)
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(ConfigError, match="save it as CSV"):
        read_answers([str(tmp_path / "a.xlsx")], [RECORD], SPACE)


def test_the_row_of_a_mistake_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"row 4: label 'cow' is not one of the classes"):
        read_answers([filled(tmp_path, ["cat", "dog", "cow", *["dog"] * 17])], [RECORD], SPACE)


class Listed:
    """A source of a few rows."""

    label_space = SPACE

    def rows(self, after=None):
        for key, split in (("0.mp4", "unlabeled"), ("1.mp4", "unlabeled"), ("2.mp4", "test")):
            yield SourceRow(key, 1, "", None, None, key, split, None)

    def place(self):
        return "here"


def test_labelled_rows_are_of_the_probe_and_the_others_stay():
    source = MoreProbe(Listed(), {sample_id("0.mp4"): (1,), sample_id("1.mp4"): None})
    first, second, third = source.rows()
    assert (first.split, first.labels) == ("probe", (1,))
    assert (second.split, second.labels) == ("probe", None)
    assert third.split == "test"
    assert isinstance(source, Placed) and source.place() == "here"
    with pytest.raises(ConfigError, match=r"2\.mp4, which the source has in 'test'"):
        list(MoreProbe(Listed(), {sample_id("2.mp4"): (1,)}).rows())


def test_a_forgotten_sample_leaves_its_place_and_nothing_else(tmp_path):
    root = open_root(str(tmp_path))
    RECORD.write(root)
    folder = root.child("asked", "q1")
    folder.write("labels.csv", table_of(SAMPLES).encode())
    folder.write("index.html", b"3.mp4")
    assert not forget_asked(root, {1})
    assert forget_asked(root, {SAMPLES[3].sample_id})
    text = b"".join(folder.read(name) for name in folder.names())
    assert b"3.mp4" not in text.replace(b"13.mp4", b"")
    assert b'g3"' not in text
    (record,) = records_of(root)
    assert record.samples[3].stratum == "agree"
    assert folder.read("labels.csv").splitlines()[4] == b"q1-0003,,,,,"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_it_is_forgotten_in_whatever_a_spreadsheet_saved(tmp_path, delimiter, encoding):
    root = open_root(str(tmp_path))
    RECORD.write(root)
    rows = [line.split(",") for line in table_of(SAMPLES).splitlines()]
    rows[1][-1], rows[4][-1] = "Käfer", "dog"
    rows = [[row[4], row[0], *row[1:4], row[5]] for row in rows]  # group before id
    text = "\n".join(delimiter.join(row) for row in rows)
    folder = root.child("asked", "q1")
    folder.write("labels.csv", text.encode(encoding))
    assert forget_asked(root, {SAMPLES[3].sample_id})
    left = folder.read("labels.csv").decode(encoding).splitlines()
    assert left[4] == delimiter.join(["", "q1-0003", "", "", "", "dog"])
    assert left[:4] + left[5:] == text.splitlines()[:4] + text.splitlines()[5:]


def test_a_table_that_nobody_can_read_is_deleted_with_what_it_may_show(tmp_path, caplog):
    root = open_root(str(tmp_path))
    RECORD.write(root)
    folder = root.child("asked", "q1")
    folder.write("labels.csv", b"PK\x03\x04\x00 3.mp4")
    assert forget_asked(root, {SAMPLES[3].sample_id})
    assert not folder.exists("labels.csv")
    assert "labels.csv was no table of rows" in caplog.text


def test_a_sample_of_two_draws_is_given_back_once(tmp_path):
    again = tuple(replace(one, id=one.id.replace("q1", "q2")) for one in SAMPLES)
    table = filled(tmp_path, ["cat"] * 20)
    (tmp_path / "q2.csv").write_text(Path(table).read_text().replace("q1", "q2"))
    records = [RECORD, replace(RECORD, name="q2", samples=again)]
    with pytest.raises(ConfigError, match="one sample twice, as q1-0000 and q2-0000"):
        read_answers([table, str(tmp_path / "q2.csv")], records, SPACE)
