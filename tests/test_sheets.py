"""Spreadsheets as people send them: several sheets, a title above the header, a total below the rows."""

import numpy as np
import pandas as pd
import pytest
from test_files import read

from netformer.errors import InputError
from netformer.tables.delimited import header_at
from netformer.tables.files import TOTALS, read_raw


@pytest.fixture
def sales():
    rng = np.random.default_rng(0)
    shops = [f"shop {i % 4}" for i in range(12)]
    return pd.DataFrame({"shop": shops, "size": rng.normal(size=12), "n": np.arange(12), "sales": rng.normal(size=12)})


def with_total(frame, word):
    numbers = frame.select_dtypes("number").sum()
    return pd.concat([frame, pd.DataFrame([{frame.columns[0]: word} | dict(numbers)])], ignore_index=True)


@pytest.mark.parametrize(("sep", "decimal"), [(",", "."), (";", ",")])
@pytest.mark.parametrize(
    "above", ["Sales of 2024\n", "Sales of 2024\n\nas of,1.3.\n", '"Sales, of\n2024"\n', "Sales;;;\n,,,\n"]
)
def test_a_title_is_skipped(sales, tmp_path, above, sep, decimal):
    above = above.replace(";", ",") if sep == "," else above.replace(",", ";")
    table = sales.to_csv(index=False, sep=sep, decimal=decimal)
    raw = read(tmp_path, above + table)
    pd.testing.assert_frame_equal(raw.frame, sales, check_dtype=False)
    assert any("above the header" in note and "'Sales" in note for note in raw.notes)
    plain = read(tmp_path, table)
    assert not any("above the header" in note for note in plain.notes)


def test_lines_are_counted_from_the_top_of_the_file(sales, tmp_path):
    lines = sales.to_csv(index=False).splitlines()
    lines[5] += ",one more"
    with pytest.raises(InputError, match="line 8 has 5 cells, the header 4"):
        read(tmp_path, "\n".join(["Sales", "", *lines]))


@pytest.mark.parametrize(
    ("rows", "at"),
    [
        ([["a", "b"], ["1", "2"]], 0),
        ([["title"], ["a", "b"], ["1", "2"]], 1),
        ([["title", ""], ["", ""], ["a", "b"], ["1", "2"]], 2),
        ([["of", "x", "", "", "", ""], list("abcdef"), ["1"] * 6], 1),
        ([["a", "", ""], ["1", "2", "3"], ["4", "5", "6"]], 0),  # columns without a name
        ([["a"], ["b"], ["c"]], 0),
        ([["a", "b", "c", ""], ["x", "", "", ""]], 0),
        ([["title"], ["a", "a"], ["1", "2"]], 0),
        ([], 0),
    ],
)
def test_where_the_header_is(rows, at):
    assert header_at(rows) == at


@pytest.mark.parametrize("word", ["Total", "TOTALS:", "Summe", " grand total ", "Total g\u00e9n\u00e9ral"])
def test_a_total_is_left_out(sales, tmp_path, word):
    raw = read(tmp_path, with_total(sales, word).to_csv(index=False))
    pd.testing.assert_frame_equal(raw.frame, sales, check_dtype=False)
    assert f"left out the last row, {word.strip()!r}, which sums up those above" in raw.notes[-1]


def test_totals_and_means_one_below_the_other(sales, tmp_path):
    table = with_total(with_total(sales, "Total"), "Average").to_csv(index=False)
    assert len(read(tmp_path, table).frame) == 12
    years = sales.assign(shop=range(2001, 2013)).rename(columns={"shop": "year"})
    raw = read(tmp_path, with_total(years.astype({"year": object}), "Total").to_csv(index=False))
    assert raw.frame["year"].astype(int).tolist() == list(range(2001, 2013))


def test_a_blank_row_above_a_total_is_no_row(sales, tmp_path):
    blank = pd.concat([sales, pd.DataFrame([{}, {}])], ignore_index=True)
    with_total(blank, "Total").to_excel(tmp_path / "t.xlsx", index=False)
    pd.testing.assert_frame_equal(read_raw(tmp_path / "t.xlsx").frame, sales, check_dtype=False)


@pytest.mark.parametrize("above", [0, 3])
def test_cells_merged_over_rows_stand_in_each_of_them(sales, tmp_path, above):
    openpyxl = pytest.importorskip("openpyxl")
    path, table = tmp_path / "t.xlsx", sales.assign(shop=np.repeat(["north", "south"], 6), n=np.repeat([1, 2, 3], 4))
    table.to_excel(path, index=False, startrow=above)
    book = openpyxl.load_workbook(path)
    if above:
        book.active["A1"] = "Sales of 2024"
        book.active.merge_cells("A1:D2")
    for first, last, column in ((2, 7, 1), (8, 13, 1), (2, 5, 3), (6, 9, 3), (10, 13, 3)):
        place = {"start_row": first + above, "end_row": last + above}
        book.active.merge_cells(**place, start_column=column, end_column=column)  # empties all but the first cell
    book.active.merge_cells(start_row=13 + above, end_row=13 + above, start_column=4, end_column=6)
    book.save(path)
    raw = read_raw(path)
    pd.testing.assert_frame_equal(raw.frame, table, check_dtype=False)
    assert raw.notes[-1] == f"{path}: cells merged over several rows stand in each of them, in 'shop', 'n'"


def test_merged_cells_that_overlap_are_refused(sales, tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    path = tmp_path / "t.xlsx"
    sales.to_excel(path, index=False)
    book = openpyxl.load_workbook(path)
    book.active.merged_cells.ranges = {openpyxl.worksheet.cell_range.CellRange(f"A2:A{i}") for i in range(7, 14)}
    book.save(path)
    with pytest.raises(InputError, match=r"t.xlsx: merged cells of the sheet overlap; save it again"):
        read_raw(path)


def test_what_is_no_total_stays(sales, tmp_path):
    for word in ("totally", "Sumo", "shop 1"):
        assert TOTALS.fullmatch(word) is None
        assert len(read(tmp_path, with_total(sales, word).to_csv(index=False)).frame) == 13
    levels = sales.assign(shop=["total", "part"] * 6).iloc[::-1].reset_index(drop=True)
    raw = read(tmp_path, levels.to_csv(index=False))  # a level of several rows
    assert len(raw.frame) == 12
    assert not raw.notes
    assert len(read(tmp_path, "a,b\nTotal,1\n").frame) == 1


def book(path, **sheets):
    pytest.importorskip("openpyxl")
    with pd.ExcelWriter(path) as written:
        for name, (frame, row) in sheets.items():
            frame.to_excel(written, sheet_name=name, index=False, startrow=row)
            if row:
                written.sheets[name]["A1"] = "Sales, made by the office"


def test_the_first_sheet_with_a_table_is_read(sales, tmp_path):
    path = tmp_path / "t.xlsx"
    book(
        path,
        About=(pd.DataFrame({"made by the office": []}), 0),
        Year=(with_total(sales, "Total"), 3),
        B=(sales * 2, 0),
    )
    raw = read_raw(path)
    pd.testing.assert_frame_equal(raw.frame, sales, check_dtype=False)
    assert raw.notes == [
        f"{path}: read sheet 'Year', number 2 of 3; others: 'About', 'B', --sheet names one",
        f"{path}: skipped the row 'Sales, made by the office' above the header",
        f"{path}: left out the last row, 'Total', which sums up those above",
    ]
    for sheet in ("B", "3"):
        raw = read_raw(path, sheet=sheet)
        pd.testing.assert_frame_equal(raw.frame, sales * 2, check_dtype=False)
        assert raw.notes == [f"{path}: read sheet 'B', number 3 of 3"]
    for sheet in ("b", "0", "4", ""):
        with pytest.raises(InputError, match=f"sheet must be one of 'About', 'Year', 'B', or .* 1 to 3, got '{sheet}'"):
            read_raw(path, sheet=sheet)


@pytest.mark.parametrize("title", ["Report\r\r", "Bericht für Mai\rvorläufig\r\n\r", "Report\n\r\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_title_may_end_its_lines_in_another_way_than_the_rows(sales, tmp_path, title, end):
    path = tmp_path / "t.csv"
    path.write_bytes((title + sales.to_csv(index=False, lineterminator=end)).encode())
    raw = read_raw(path)
    pd.testing.assert_frame_equal(raw.frame, sales, check_dtype=False)
    assert [note for note in raw.notes if "above the header" in note]


def test_a_sheet_whose_name_is_a_number(sales, tmp_path):
    path = tmp_path / "t.xlsx"
    book(path, **{"2": (sales, 0), "1": (sales * 2, 0)})
    pd.testing.assert_frame_equal(read_raw(path, sheet="1").frame, sales * 2, check_dtype=False)


def test_a_sheet_is_said_of_excel_alone(tmp_path):
    with pytest.raises(InputError, match=r"a sheet is said of .xlsx, not of .csv; leave it out"):
        read(tmp_path, "a,b\n1,2\n", sheet="B")
