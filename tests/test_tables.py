"""Tables: ids stay text, only n/a is missing, ragged or undescribed tables are refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from reconfmri.tables import read_table, write_table


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "table.tsv"
    path.write_bytes(text.encode(encoding))
    return path


def test_labels_that_look_like_numbers_or_nothing_are_text(tmp_path):
    path = written(tmp_path, "id\tarm\n001\tNone\nNA\tnan\n1e3\tn/a\n")
    table = read_table(path)
    assert table["id"].tolist() == ["001", "NA", "1e3"]
    assert table["arm"].tolist() == ["None", "nan", None]


def test_numbers_are_float_and_n_a_is_nan(tmp_path):
    table = read_table(written(tmp_path, "a\tb\n1\tx\nn/a\ty\n\tz\n"), numeric=["a"])
    assert table["a"].dtype == np.float64
    assert table["a"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize("ends", ["\r\n", "\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark_change_nothing(tmp_path, ends, mark):
    table = read_table(written(tmp_path, mark + ends.join(["id\tx", "1\t2", ""])))
    assert table.columns.tolist() == ["id", "x"]
    assert table["x"].tolist() == ["2"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\tb\n1\t2\t3\n", "line 2, column 3: the row has 3 cells, the header 2"),
        ("a\tb\n1\t2\n1\n", "line 3, column 2: the row has 1 cells, the header 2"),
        ("a\ta\n1\t2\n", "names a column twice"),
        ("", "empty"),
        ("b\tc\n1\t2\n", "columns ['a'] are missing; it has ['b', 'c']"),
        ("a\n1\nmany\n", "line 3, column 'a': 'many' is not a number. Fix: "),
        ("a\n1_000\n", "'1_000' is not a number"),
        ("a\n\uff11\n", "is not a number"),
    ],
)
def test_a_malformed_table_is_refused_with_line_and_column(tmp_path, text, says):
    path = written(tmp_path, text)
    with pytest.raises(ValueError) as error:
        read_table(path, numeric=["a"], required=["a"])
    assert says in str(error.value)
    assert str(path) in str(error.value)


def test_a_table_in_another_encoding_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not UTF-8 at byte 6"):
        read_table(written(tmp_path, "name\nM\xfcller\n", encoding="latin-1"))


@pytest.mark.parametrize(
    "text",
    [
        "root:x:0:0:root\ndaemon:x:1:1\n",
        "hunter2\n",
        "-----BEGIN KEY-----\nsecret\n",
        "10.0.0.1\thost\thost\n",
    ],
)
def test_nothing_of_a_file_that_is_no_table_is_shown(tmp_path, text):
    with pytest.raises(ValueError) as error:
        read_table(written(tmp_path, text), required=["participant_id"])
    shown = str(error.value).removeprefix(str(tmp_path))
    assert not any(word in shown for word in text.replace(":", " ").split() if len(word) > 1)


def test_what_is_written_is_read_back_and_described(tmp_path):
    table = pd.DataFrame({"id": ["01", "02"], "x": [0.1 + 0.2, np.nan], "n": [1, 2]})
    write_table(tmp_path / "t.tsv", table, {"id": "a", "x": "b, mm", "n": "c"})
    assert (tmp_path / "t.tsv").read_text() == "id\tx\tn\n01\t0.3\t1\n02\tn/a\t2\n"
    assert json.loads((tmp_path / "t.json").read_text())["x"] == {"Description": "b, mm"}
    again = read_table(tmp_path / "t.tsv", numeric=["x"])
    assert again["id"].tolist() == ["01", "02"]
    assert again["x"].iloc[0] == 0.3


def test_ten_digits_are_kept(tmp_path):
    write_table(tmp_path / "t.tsv", pd.DataFrame({"x": [1234.56789012345]}))
    assert (tmp_path / "t.tsv").read_text() == "x\n1234.56789\n"


def test_a_column_without_description_or_a_tab_in_a_cell_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\['x'\] have no description"):
        write_table(tmp_path / "t.tsv", pd.DataFrame({"x": [1]}), {})
    with pytest.raises(ValueError, match="holds a tab"):
        write_table(tmp_path / "t.tsv", pd.DataFrame({"x": ["a\tb"]}))
