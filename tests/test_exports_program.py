"""The program beside a C file: it reads a CSV file as the package does, and says in one line what it cannot read."""

import subprocess

import numpy as np
import pandas as pd
import pytest
from mixed import networks_for
from readers import program

from netformer import export
from netformer.errors import InputError
from netformer.tables.files import read_raw

TOWNS = np.array(["Ulm", "Bonn", "Kiel; Süd", 'the "Hof"'], dtype=object)


def table_of(n, seed):
    """Columns as text: a decimal comma, money, shares, truth, dates in two forms, a category; and a target."""
    rng = np.random.default_rng(seed)
    size, price, share = (
        rng.normal(50, 9, n).round(2),
        rng.uniform(-900, 9e6, n).round(2),
        rng.uniform(0, 9, n).round(1),
    )
    day = pd.Timestamp("1968-02-27 12:00") + pd.to_timedelta(rng.integers(0, 25000, n), "D")
    flag, town = rng.random(n) < 0.5, rng.integers(0, 4, n)
    table = pd.DataFrame(
        {
            "size": [f"{v:.2f}".replace(".", ",") for v in size],
            "price, net": [f"(${-v:,.2f})" if v < 0 else f"${v:,.2f}" for v in price],
            "share": [f"{v} %" for v in share],
            "flag": np.where(flag, "True", "false"),
            "day": day.strftime("%Y-%m-%dT%H:%M"),
            "month": day.strftime("%b %d, %Y"),
            "town": TOWNS[town],
        }
    )
    gap = rng.random((n, 7)) < 0.05
    return table.mask(gap, ""), size + share + 3.0 * flag + town**2


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A population and its program."""
    folder = tmp_path_factory.mktemp("program")
    population = networks_for(*table_of(300, 0), sparse_share=0.0)
    paths = export(population, 0, folder / "net.c", "c")
    assert [path.name for path in paths] == ["net.c", "net_csv.c"]
    return population, program(paths[0])


def run(made, path, **options):
    return subprocess.run([made[1], path], capture_output=True, text=True, **options)


def answers(made, path):
    done = run(made, path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "price"
    return np.array([float(line) for line in done.stdout.splitlines()[1:]])


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
def test_it_reads_what_people_write(made, tmp_path, sep):
    rows, _ = table_of(200, 1)
    kinds = [column.kind for column in made[0].reading.table]
    assert kinds == ["number"] * 4 + ["date"] * 2 + ["category"]
    assert [made[0].reading.table[i].form for i in (0, 5)] == [",", "%b %d, %Y"]
    rows.to_csv(tmp_path / "rows.csv", index=False, sep=sep)
    np.testing.assert_allclose(answers(made, tmp_path / "rows.csv"), made[0].predict(rows, 0), rtol=1e-6, atol=1e-5)


def test_line_ends_marks_blank_lines_and_quotes_change_nothing(made, tmp_path):
    rows, _ = table_of(20, 2)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    expected = answers(made, tmp_path / "rows.csv")
    text = (tmp_path / "rows.csv").read_text()
    quoted = rows.to_csv(index=False, quoting=1)
    for other in (
        text.replace("\n", "\r\n"),
        "\ufeff" + text,
        text.replace("\n", "\n\n"),
        text.rstrip("\n"),
        quoted,
        text.replace("Ulm", " Ulm "),
    ):
        (tmp_path / "rows.csv").write_bytes(other.encode())
        np.testing.assert_array_equal(answers(made, tmp_path / "rows.csv"), expected)
    piped = subprocess.run([made[1]], input=text, capture_output=True, text=True, check=True)
    assert [float(line) for line in piped.stdout.splitlines()[1:]] == expected.tolist()


@pytest.mark.parametrize("sep", [",", ";"])
def test_blanks_behind_separators_are_no_part_of_a_cell(made, tmp_path, sep):
    """Of names neither, and a cell behind one may be quoted."""
    rows, path = table_of(20, 2)[0].assign(town="Ulm"), tmp_path / "rows.csv"
    rows.to_csv(path, index=False, quoting=1)
    expected = answers(made, path)
    quoted = path.read_text().replace('","', f'"{sep}  "').replace("\n", " \n")
    for text in (quoted, "\ufeff" + quoted, quoted.replace('"size"', "size").replace('"town"', "town")):
        path.write_bytes(text.encode())
        np.testing.assert_array_equal(answers(made, path), expected)
        np.testing.assert_allclose(expected, made[0].predict(read_raw(path).frame, 0), rtol=1e-6, atol=1e-5)


DAYS = {
    "2020-02-29": 1582934400,
    "2020-02": 1580515200,
    "2020/02/29": 1582934400,
    "2020/02/29 10:30": 1582972200,
    "2020-02-29 10:30": 1582972200,
    "2020-02-29T10:30:15.25": 1582972215.25,
    "2020-02-29T10:30:15Z": 1582972215,
    "2020-02-29T12:30:15+02:00": 1582972215,
    "2020-02-28T23:00:00-0130": 1582936200,
    "2020-02-29T10": 1582970400,
    "2020-02-29 10": 1582970400,
    "20200229": 1582934400,
    "2020": 1577836800,
    "1969-12-31T23:59:59": -1,
    "1972-02-29": 789 * 86400,
}


@pytest.mark.parametrize("text", DAYS)
def test_dates_are_seconds(made, tmp_path, text):
    found, moments = [], [pd.Timestamp(DAYS[text] + later, unit="s") for later in (0, 1e5)]
    for day in (text, *(f"{moment:%Y-%m-%dT%H:%M:%S.%f}" for moment in moments)):
        table_of(3, 3)[0].assign(day=day).to_csv(tmp_path / "rows.csv", index=False)
        found.append(answers(made, tmp_path / "rows.csv").tolist())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("text", ["USD 1234,5", "1 234,5 chf", "eur1234,5", "1\u2009234,5", "\u20ac\x0b1.234,5"])
def test_numbers_wear_what_predict_takes_off(made, tmp_path, text):
    rows = table_of(3, 5)[0]
    for size in (text, "1234,5"):
        rows.assign(size=size).to_csv(tmp_path / f"{size == text}.csv", index=False)
    dressed, plain = (answers(made, tmp_path / f"{which}.csv").tolist() for which in (True, False))
    assert dressed == plain
    np.testing.assert_allclose(dressed, made[0].predict(rows.assign(size=text), 0), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    "text", ["214.62", "1.234", "0.234", "12.345.678", "0,234", "1.5e2", "1,5e2", "1.234,5e-1", "-1.234", "+2,5"]
)
def test_points_are_what_predict_takes_them_for(made, tmp_path, text):
    rows = table_of(1, 5)[0].assign(size=text)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    expected = made[0].predict(rows, 0)
    np.testing.assert_allclose(answers(made, tmp_path / "rows.csv"), expected, rtol=1e-6, atol=1e-5)


WRONG = {
    'row 1: column "size" must hold a number, found "1.2,5"': lambda t: t.assign(size="1.2,5"),
    'row 1: column "size" must hold a number, found "1,234,567"': lambda t: t.assign(size="1,234,567"),
    'row 2: column "size" must hold a number, found "12 cm"': lambda t: t.assign(size=["1", "12 cm", "3"]),
    'row 1: column "size" must hold a number, found "0x1F"': lambda t: t.assign(size="0x1F"),
    'row 1: column "size" must hold a number, found "inf"': lambda t: t.assign(size="inf"),
    'row 3: column "day" must hold a date, found "2021-02-29"': lambda t: t.assign(day=["", "", "2021-02-29"]),
    'row 1: column "day" must hold a date, found "1577923200"': lambda t: t.assign(day="1577923200"),
    'row 1: column "day" must hold a date, found "2021-02-28T25:00"': lambda t: t.assign(day="2021-02-28T25:00"),
    'row 1: column "month" must hold a date, found "Foo 03, 2020"': lambda t: t.assign(month="Foo 03, 2020"),
    'row 1: column "month" must hold a date, found "Feb 03, 20"': lambda t: t.assign(month="Feb 03, 20"),
    'row 1: column "size" must hold a number, found "5 USD 6"': lambda t: t.assign(size="5 USD 6"),
    'column "town" is missing; the first one there is "size"': lambda t: t.drop(columns="town"),
    'column "size" is there twice': lambda t: t.rename(columns={"share": "size"}),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_it_cannot_read_is_one_line(made, tmp_path, message):
    WRONG[message](table_of(3, 4)[0]).to_csv(tmp_path / "rows.csv", index=False)
    done = run(made, tmp_path / "rows.csv")
    separator = ", " if message.startswith("row") else ": "
    assert (done.returncode, done.stderr) == (2, f"{tmp_path / 'rows.csv'}{separator}{message}\n")


def test_a_broken_file_is_one_line(made, tmp_path):
    text = table_of(3, 5)[0].to_csv(index=False)
    for name, content, message in [
        ("open.csv", text + '"Ulm', "open.csv, row 4: a quote is never closed"),
        ("wide.csv", text + "1,2,3\n", "wide.csv, row 4: the row has more or fewer cells than the header"),
        ("empty.csv", "", "empty.csv: must have a row of column names"),
    ]:
        (tmp_path / name).write_text(content)
        done = run(made, tmp_path / name)
        assert (done.returncode, done.stderr) == (2, f"{tmp_path}/{message}\n")
    done = run(made, tmp_path / "absent.csv")
    assert (done.returncode, done.stderr) == (2, f"{tmp_path}/absent.csv: no such file\n")


def test_it_reads_the_two_files_or_neither(made, tmp_path):
    (tmp_path / "net_csv.c").write_text("mine")
    with pytest.raises(InputError, match=r"net_csv.c exists; choose another name or pass overwrite=True"):
        export(made[0], 0, tmp_path / "net.c", "c")
    assert [path.name for path in tmp_path.iterdir()] == ["net_csv.c"]
