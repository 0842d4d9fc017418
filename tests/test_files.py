"""Files: every format gives the same table, what is assumed is said, and every bad input is one line."""

import gzip
import io
import json
import re
import sys

import numpy as np
import pandas as pd
import pytest

from netformer.errors import InputError
from netformer.tables.files import read_raw, read_table
from netformer.tables.intake import take_in


@pytest.fixture
def frame():
    rng, texts = np.random.default_rng(0), ["a, b", 'say "x"', "größe; m|n", "", "1,5 or so", "x\ty"]
    return pd.DataFrame(
        {
            "size": rng.normal(size=12).round(3),
            "room, kind": [texts[i % 6] or None for i in range(12)],
            "n": range(12),
            "with; gaps": [None if i % 5 == 1 else i / 4 for i in range(12)],
            "y": rng.normal(size=12),
        }
    )


def text(frame, sep=",", decimal="."):
    return frame.to_csv(index=False, sep=sep, decimal=decimal)


def read(tmp_path, content, name="t.csv", **given):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_raw(tmp_path / name, **given)


def lines(frame):
    return frame.to_json(orient="records", lines=True, double_precision=15)


BINARY = {
    "t.parquet": lambda frame, path: frame.to_parquet(path),
    "t.feather": lambda frame, path: frame.to_feather(path),
    "t.arrow": lambda frame, path: frame.to_feather(path),
    "t.csv.gz": lambda frame, path: path.write_bytes(gzip.compress(text(frame).encode())),
    "t.tsv.gz": lambda frame, path: path.write_bytes(gzip.compress(text(frame, "\t").encode())),
    "t.jsonl.gz": lambda frame, path: path.write_bytes(gzip.compress(lines(frame).encode())),
    "t.jsonl": lambda frame, path: path.write_text(lines(frame)),
    "t.NDJSON": lambda frame, path: path.write_text(lines(frame) + "\n\n"),
    "t.json": lambda frame, path: frame.to_json(path, orient="records", double_precision=15),
    "columns.json": lambda frame, path: frame.to_json(path, double_precision=15),
}


@pytest.mark.parametrize("name", BINARY)
def test_every_format_gives_the_same_table(frame, tmp_path, name):
    BINARY[name](frame, tmp_path / name)
    raw = read_raw(tmp_path / name)
    pd.testing.assert_frame_equal(raw.frame.reset_index(drop=True), frame, rtol=1e-12)
    assert raw.notes == []


@pytest.mark.parametrize(("sep", "word"), [(",", ""), (";", "a semicolon"), ("\t", "a tab"), ("|", "a vertical bar")])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
def test_the_separator_is_found(frame, tmp_path, sep, word, suffix):
    raw = read(tmp_path, text(frame, sep), "t" + suffix)
    pd.testing.assert_frame_equal(raw.frame, frame)
    if {".csv": ",", ".tsv": "\t", ".txt": ","}[suffix] == sep:
        assert raw.notes == []
    else:
        (note,) = raw.notes
        assert note.endswith(f"read 12 rows and 5 columns, separated by {word or 'a comma'}")


@pytest.mark.parametrize("sep", [";", "\t", "|"])
def test_a_decimal_comma_is_found_beside_other_separators(frame, tmp_path, sep):
    raw = read(tmp_path, text(frame, sep, ","))
    pd.testing.assert_frame_equal(raw.frame, frame)
    (note,) = raw.notes
    assert note.endswith(", with ',' as decimal mark")


def test_a_decimal_comma_is_found_below_the_first_lines(tmp_path):
    whole = "".join(f"{i};{i}\n" for i in range(200))
    frame = read(tmp_path, f"a;b\n{whole}7;0,5\n").frame
    assert frame["b"].iloc[-1] == 0.5


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a;b\n1,234;x\n5,678;y\n", [1.234, 5.678]),  # beside semicolons a comma is a decimal mark
        ("a|b\n1,234|x\n5,678|y\n", ["1,234", "5,678"]),  # elsewhere it may be a thousand: text
        ("a;b\n1,234;0.5\n5,678;1.5\n", ["1,234", "5,678"]),  # so it is beside decimal points
        ("a;b\n1.234;0,5\n5.678;1,5\n", ["1.234", "5.678"]),  # and a point beside decimal commas
        ('a,b\n"1,5",2\n"2,5",3\n', ["1,5", "2,5"]),
        ("a;b\n1.234,5;1\n2.234,5;2\n", ["1.234,5", "2.234,5"]),
        ("a,b\n$1,x\n5%,y\n", ["$1", "5%"]),
        ("a,b\n1,x\n?,y\n", ["1", "?"]),
    ],
)
def test_what_may_be_two_numbers_stays_text(tmp_path, content, expected):
    assert read(tmp_path, content).frame["a"].tolist() == expected


def test_commas_in_a_header_and_in_numbers_do_not_hide_the_semicolons(tmp_path):
    frame = read(tmp_path, "x, in mm;y, in mm\n1,5;2,5\n3,5;4,5\n").frame
    assert frame.to_dict("list") == {"x, in mm": [1.5, 3.5], "y, in mm": [2.5, 4.5]}


def test_a_separator_that_is_named(tmp_path):
    assert read(tmp_path, "a:b\n1:2\n", separator=":").frame.to_dict("list") == {"a": [1], "b": [2]}
    assert read(tmp_path, "a,b;c\n1,2;3\n", separator=";").frame["a,b"].tolist() == [1.2]
    assert read(tmp_path, "a\tb,c\n1\t2,x\n", separator="tab").frame["a"].tolist() == [1]
    spaces = read(tmp_path, "a  b   c\n 1 2.5  x\n3  4 y\n", "t.txt", separator="space").frame
    assert spaces.to_dict("list") == {"a": [1, 3], "b": [2.5, 4.0], "c": ["x", "y"]}
    assert read(tmp_path, 'sep=;\r\na;b\r\n"1;2";3\r\n').frame.to_dict("list") == {"a": ["1;2"], "b": [3]}
    for wrong in ("ab", "1", '"', "§"):
        with pytest.raises(InputError, match="separator must be one character such as ';', or tab or space, got"):
            read(tmp_path, "a,b\n1,2\n", separator=wrong)


def test_blanks_behind_separators_are_no_part_of_names_and_cells(tmp_path):
    frame = read(tmp_path, 'a, b, c\n1, "x, y", 2\n3, z , 4\n').frame
    assert frame.to_dict("list") == {"a": [1, 3], "b": ["x, y", "z "], "c": [2, 4]}


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_encodings_that_say_what_they_are(frame, tmp_path, code, name):
    content = text(frame) if name == "t.csv" else lines(frame)
    raw = read(tmp_path, content.encode(code), name)
    pd.testing.assert_frame_equal(raw.frame, frame, rtol=1e-12)
    said = [f"{tmp_path / name}: the text is {code.upper()}, by its byte order mark"]
    assert raw.notes == ([] if code.startswith("utf-8") else said)


@pytest.mark.parametrize("code", ["cp1252", "latin-1", "utf-16-le", "utf-8"])
def test_an_encoding_that_is_given(frame, tmp_path, code):
    pd.testing.assert_frame_equal(read(tmp_path, text(frame).encode(code), encoding=code).frame, frame)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("größe", "latin-1", "0xf6 in line 2; probably cp1252 (Windows, includes latin-1): say --encoding cp1252, or"),
        ("5 €", "cp1252", "0x80 in line 2; probably cp1252"),
        ("für", "cp850", "0x81 in line 2; probably cp850 (DOS): say --encoding cp850, or convert it: iconv -f cp850"),
        ("Москва", "cp1251", "0xcc in line 2; perhaps cp1251 (Cyrillic), gb18030 (Chinese) or shift_jis"),
        (
            "城市",
            "gb18030",
            "0xb3 in line 2; perhaps cp1251 (Cyrillic), gb18030 (Chinese) or shift_jis (Japanese): name",
        ),
    ],
)
@pytest.mark.parametrize("rows", [1, 60_000])  # within the first megabyte, and behind it
def test_a_wrong_encoding_is_named(tmp_path, words, code, message, rows):
    content = f"city,y\n{words},1\n".encode(code)
    if rows > 1:
        content = content.replace(b"\n", b"\n" + b"some words,2.5\n" * 90_000, 1)
        message = message.replace("line 2", "line 90002")
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read(tmp_path, content)
    assert "the text must be UTF-8, found byte" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=re.escape(message.split(" in line")[0])):
        read(tmp_path, f'{{"city": "{words}"}}\n'.encode(code), "t.jsonl")


def test_comments_and_blank_lines_before_the_header(tmp_path):
    raw = read(tmp_path, "# from a logger, v2\n# 2020\n\na,b\n1,x\n\n2,y\n")
    assert raw.frame.to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}
    assert raw.notes == [f"{tmp_path / 't.csv'}: skipped 2 leading lines starting with #"]
    raw = read(tmp_path, "# from a logger\n#a, b\n1,2\n3,4\n")
    assert raw.frame.to_dict("list") == {"a": [1, 3], "b": [2, 4]}
    assert raw.notes == [f"{tmp_path / 't.csv'}: line 2 starts with # and was read as the header"]


def test_a_table_without_a_header(tmp_path):
    raw = read(tmp_path, "1,2.5\n1,3.5\n", header=False)
    assert raw.frame.to_dict("list") == {"x0": [1, 1], "x1": [2.5, 3.5]}
    assert raw.notes == []
    assert read(tmp_path, "# no names\n1;2,5;\n", header=False).frame.to_dict("list")["x1"] == [2.5]


@pytest.mark.parametrize("first", ["1,2.5,3", "1,2,3", "Rome,2.5,3", "a,-1,3"])
def test_a_header_that_looks_like_data_is_said(tmp_path, first):
    raw = read(tmp_path, f"{first}\n4,5,6\n")
    assert list(raw.frame.columns) == first.split(",")
    said = "the first row looks like data and was read as the header; say --no-header if it is data"
    assert raw.notes == [f"{tmp_path / 't.csv'}: {said}"]
    assert read(tmp_path, "country,1990,1991\nA,1,2\n").notes == []


def test_nameless_columns(tmp_path):
    raw = read(tmp_path, ",a,,b,\nr1,1,2,3,\nr2,4,5,6,\n")
    assert raw.frame.to_dict("list") == {"a": [1, 4], "Unnamed: 2": [2, 5], "b": [3, 6]}
    assert [note.split(": ", 1)[1] for note in raw.notes] == [
        "left out 'Unnamed: 0', a column without a name, as row names",
        "left out 1 column without name and values",
        "columns without a name are called 'Unnamed: 2'",
    ]


def test_short_rows_are_said_and_gaps_are_not(tmp_path):
    assert read(tmp_path, "a,b\n1,\n3,4\n").notes == []
    assert read(tmp_path, 'a,b\n"1\n, x",\n3,4\n').notes == []
    raw = read(tmp_path, 'a,b\n"1\n, x",2\n\n3\n5\n')
    assert raw.frame["b"].isna().tolist() == [False, True, True]
    assert raw.notes == [
        f"{tmp_path / 't.csv'}: 2 rows have fewer cells than the header, the first in line 5; the missing ones are gaps"
    ]


BAD = [
    ("t.csv", "", "a table needs a header and rows, found an empty file"),
    ("t.csv", "\n# nothing\n", "a table needs a header and rows, found an empty file"),
    ("t.csv", ",,\n1,2,3\n", "a table needs a header, found none in its first row; give one, or say --no-header"),
    ("t.csv", "a,b,a\n1,2,3\n", "column names must be unique, found more than once: 'a'"),
    ("t.csv", "0.5,0.5\n1,2\n", "more than once: '0.5'; the first row looks like data, say --no-header if it is"),
    ("t.csv", "# x\na,b\n1,2\n\n3,4,5\n", "line 5 has 3 cells, the header 2; quote cells that hold a comma, or name"),
    ("t.csv", 'a,b\n"1\n2",3\n4,5,6\n', "line 4 has 3 cells, the header 2"),
    ("t.csv", 'a,b\n1,2\n"3,4\n5,6\n', "a quotation mark near line 3 is not closed; close it or remove it"),
    (
        "t.csv",
        "a,b\n1,2\n".encode("utf-16-le"),
        "holds zero bytes, probably UTF-16 without its mark; say --encoding utf-16-le",
    ),
    ("t.csv", "a,b\n1,2\n".encode("utf-16-be"), "probably UTF-16 without its mark; say --encoding utf-16-be"),
    ("t.csv", "a,b\n1,2\n3,\0\n", "text must not hold zero bytes, found one in line 3; remove it"),
    ("t.csv", "a,b\n" + "x" * 200_000 + ",1\n2,3,4\n", "Expected 2 fields in line 3, saw 3"),
    ("t.csv", b"PK\x03\x04 rest", "is not text, by its first bytes it is .xlsx; rename it"),
    ("t.csv.gz", "a,b\n1,2\n", "not a readable gzip file"),
    ("t.jsonl", '{"a": 1}\n{"a": 2\n', "not a readable jsonl table: line 2: Expecting"),
    ("t.jsonl", '{"a": 1, "a": 2}\n', "not a readable jsonl table: line 1: a name twice in one row: a, a"),
    ("t.jsonl", "[1, 2]\n", 'JSON must be a list of rows, [{"a": 1, "y": 2}, ..], or such a row per line in .jsonl'),
    ("t.json", '{"a": [1, 2], "b": [1]}', "JSON must be a list of rows"),
    ("t.json", "[]", "a table needs columns and rows, found none"),
    ("t.json", "", "a table needs columns and rows, found none"),
    ("t.parquet", "none at all", "not a readable parquet table"),
    ("t.feather", "none at all", "not a readable feather table"),
    ("t.dta", "x", "a table must be one of .csv, .tsv, .txt, .json, .jsonl, .ndjson (also .gz), .parquet, .feather,"),
    ("t", "x", "got 'no suffix'"),
    ("t.parquet.gz", "x", "got '.gz'"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_a_bad_file_is_one_line(tmp_path, name, content, message):
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read(tmp_path, content, name)
    assert str(error.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(40_000, 4), (60, 3_000), (3, 7_000)])
def test_tables_beyond_the_first_megabyte(tmp_path, shape):
    values = np.random.default_rng(0).normal(size=shape)
    frame = pd.DataFrame(values, columns=[f"{i}, a long name" * 10 for i in range(shape[1])])
    raw = read(tmp_path, text(frame))
    pd.testing.assert_frame_equal(raw.frame, frame)
    assert raw.notes == []


def test_what_is_said_of_text_only(frame, tmp_path):
    frame.to_parquet(tmp_path / "t.parquet")
    for given in ({"header": False}, {"separator": ";"}, {"encoding": "cp1252"}):
        with pytest.raises(InputError, match=r"said of text, not of .parquet; leave"):
            read_raw(tmp_path / "t.parquet", **given)
    with pytest.raises(InputError, match=r"said of text, not of .json; leave"):
        read(tmp_path, "[]", "t.json", header=False)
    with pytest.raises(InputError, match="encoding must be one that Python knows, such as cp1252 or utf-16, got 'x1'"):
        read(tmp_path, "a,b\n1,2\n", encoding="x1")
    with pytest.raises(InputError, match="not text in ascii; give another --encoding, or none for UTF-8"):
        read(tmp_path, "ä,b\n1,2\n", encoding="ascii")
    with pytest.raises(FileNotFoundError, match=r"absent.csv: no such file; give the path of a table: .csv"):
        read_raw(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="is a folder; give one file"):
        read_raw(tmp_path)


def test_excel(frame, tmp_path):
    pytest.importorskip("openpyxl")
    path = tmp_path / "t.xlsx"
    dated = frame.assign(day=pd.date_range("2020-01-01", periods=12))
    with pd.ExcelWriter(path) as book:
        dated.to_excel(book, sheet_name="rooms", index=False, startrow=2)
        frame.to_excel(book, sheet_name="more")
    raw = read_raw(path)
    pd.testing.assert_frame_equal(raw.frame, dated, check_dtype=False)
    assert raw.frame.dtypes[["size", "n", "y", "day"]].map(lambda dtype: dtype.kind).tolist() == ["f", "i", "f", "M"]
    assert raw.notes == [f"{path}: read sheet 'rooms', number 1 of 2; others: 'more', --sheet names one"]
    frame[["size", "y"]].to_excel(path, index=False, header=False)
    bare = read_raw(path, header=False)
    np.testing.assert_allclose(bare.frame[["x0", "x1"]], frame[["size", "y"]], rtol=1e-12)
    assert "looks like data" in read_raw(path).notes[0]
    frame.head(0).to_excel(path, index=False)
    assert read_raw(path).frame.shape == (0, 5)
    frame.set_axis(["a", "b", "c", "a", "y"], axis=1).to_excel(path, index=False)
    with pytest.raises(InputError, match="column names must be unique, found more than once: 'a'"):
        read_raw(path)
    pd.DataFrame().to_excel(path, index=False)
    with pytest.raises(InputError, match="a table needs a header and rows, the first rows of sheet 'Sheet1' are empty"):
        read_raw(path)
    path.write_bytes(b"no zip")
    with pytest.raises(InputError, match="not a readable xlsx table"):
        read_raw(path)


def test_excel_without_its_library(tmp_path, monkeypatch):
    pytest.importorskip("openpyxl")
    pd.DataFrame({"y": [1.0]}).to_excel(tmp_path / "t.xlsx", index=False)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"t.xlsx: .xlsx needs openpyxl; pip install openpyxl, or save the sheet as"):
        read_raw(tmp_path / "t.xlsx")


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "json", "parquet", "gz"])
def test_standard_input_in_any_format(frame, monkeypatch, form):
    made = {
        "csv": lambda: text(frame).encode(),
        "tsv": lambda: text(frame, "\t").encode(),
        "jsonl": lambda: lines(frame).encode(),
        "json": lambda: json.dumps(json.loads(frame.to_json(orient="records", double_precision=15)), indent=1).encode(),
        "parquet": frame.to_parquet,
        "gz": lambda: gzip.compress(text(frame).encode()),
    }[form]()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(made)))
    raw = read_raw("-")
    pd.testing.assert_frame_equal(raw.frame, frame, rtol=1e-12)
    assert all(note.startswith("standard input: ") for note in raw.notes)


def test_the_strict_reader_takes_the_same_files(frame, tmp_path):
    numeric = frame[["size", "n", "y"]]
    (tmp_path / "t.csv").write_text(text(numeric, ";", ","))
    X, y = read_table(tmp_path / "t.csv", "y")
    pd.testing.assert_frame_equal(X, numeric[["size", "n"]].astype(float))
    np.testing.assert_array_equal(y, numeric["y"])


def test_one_column_only_says_how_to_name_the_separator(tmp_path):
    (tmp_path / "t.csv").write_text("a:y\n" + "1:2\n" * 12)
    with pytest.raises(InputError, match="found one column only, 'a:y'; name what separates columns by --sep"):
        take_in(tmp_path / "t.csv", "y")
