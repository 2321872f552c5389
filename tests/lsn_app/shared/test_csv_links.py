"""Tables that spreadsheets open run nothing."""

from __future__ import annotations

import csv
import io

import pytest

from lsn_app.shared.csv_links import csv_text


@pytest.mark.parametrize(
    "name",
    [
        "=1+1",
        "+1",
        "-1",
        "@sum",
        "  =1",
        "\t=1",
        "＝1",
        "＋1",
        "x;=1",
        "x; =1",
        "x\t@a",
        "x\n=1",
        "x\r\n =1",
        "x|＝1",
        "x,-1",
    ],
)
def test_no_cell_is_a_formula_however_lines_are_split(name: str) -> None:
    text = csv_text(["name", "n"], [[name, 1]])
    for line in text.splitlines()[1:]:
        for separator in ",;\t|":
            for cell in line.split(separator):
                assert cell.strip().strip('"').strip()[:1] not in tuple("=+-@＝＋－＠")


@pytest.mark.parametrize("name", ["dog", "a-b", "St. John's", "tench, Tinca tinca", "猫", "100 % wool", "a - b", "x=1"])
def test_other_names_stay_as_they_are(name: str) -> None:
    (_, row) = csv.reader(io.StringIO(csv_text(["name", "n"], [[name, -1.5]])))
    assert row == [name, "-1.5"]
