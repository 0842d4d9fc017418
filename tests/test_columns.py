"""Columns of a table as people hold them: kinds, cells, levels, what is left out, and what the numbers become."""

import re
import warnings

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest

from netformer import NetFormerRegressor
from netformer.errors import InputError
from netformer.tables import cells
from netformer.tables.columns import column_of, stand_ins
from netformer.tables.inputs import level_means
from netformer.tables.reading import read

N = 120
rng = np.random.default_rng(0)
VALUE = rng.normal(size=N)
Y = VALUE + rng.normal(size=N) * 0.1


def kind_of(cells):
    return column_of("c", pd.Series(cells))


def test_a_date_is_read_from_another_type_than_was_fitted():
    column, _ = kind_of(pd.to_datetime(["2020-02-29", "2021-01-01"]))
    assert column.values(pd.Series(["2020-02-29"])).tolist() == [1582934400]
    assert kind_of(["2020-02-29", "2021-01-01"])[0].values(pd.Series([pd.Timestamp("2020-02-29")])) == [1582934400]


def test_levels_stand_in_order_of_their_counts_and_a_gap_is_one():
    column, codes = kind_of(["b", "a", "b", None, " b ", "a", None, "b"])
    assert (column.kind, column.levels) == ("category", ("b", "", "a"))
    assert codes.tolist() == [0, 2, 0, 1, 0, 2, 1, 0]
    assert column.codes(pd.Series(["new", "a", np.nan])).tolist() == [3, 2, 1]
    assert kind_of(["00123", "00456"] * 4)[0].kind == "category"  # a code that looks like a number
    assert kind_of(pd.Categorical([3, 1, 3, 1]))[0].levels == ("1", "3")
    ordered, codes = kind_of(pd.Categorical(["S", "L", "M", "S"], ["S", "M", "L"], ordered=True))
    assert (ordered.levels, codes.tolist()) == (("S", "M", "L"), [0, 2, 1, 0])


def test_a_few_unreadable_cells_among_numbers_are_gaps_and_the_first_is_named():
    column, values = kind_of([*map(str, range(30)), "broken", "7", "odd"])
    assert (column.kind, column.note) == ("number", "numbers; the cell in row 31 and 1 more taken for gaps")
    assert np.isnan(values).sum() == 2
    assert column.words == ()  # of one row each: nothing that is kept may tell of one
    kept, _ = kind_of([*map(str, range(60)), "odd", "broken", " odd"])
    assert kept.words == ("odd",)
    np.testing.assert_array_equal(kept.values(pd.Series([" odd ", "3", "odd", ""])), [np.nan, 3, np.nan, np.nan])
    with pytest.raises(InputError, match="found 'Odd' in row 2"):
        kept.values(pd.Series(["odd", "Odd"]))
    assert kind_of(["1", "2", "x", "y"] * 3)[0].kind == "category"


def test_a_word_for_a_gap_is_one_in_every_later_row():
    table = frame(size=[str(i % 17) for i in range(N - 3)] + ["to ask"] * 3)
    with pytest.warns(UserWarning, match=r"column 'size': 'to ask' taken for a gap"):
        fitted = NetFormerRegressor(random_state=0, n_samples=3).fit(table, Y)
    gap = table.assign(size=table["size"].replace("to ask", None))
    expected = NetFormerRegressor(random_state=0, n_samples=3).fit(gap, Y).predict(gap)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(fitted.predict(table), expected)
        np.testing.assert_array_equal(fitted.predict(table[-1:]), fitted.predict(gap[-1:]))
    rare = table.assign(size=[*table["size"][:-1], "soon"])  # among many it is a gap, alone it is an error
    with pytest.warns(UserWarning, match="column 'size': 'soon' in row 120 taken for a gap"):
        np.testing.assert_array_equal(fitted.predict(rare), expected)
    with pytest.raises(InputError, match=r"column 'size' must hold a number in every row.* found 'soon' in row 1;"):
        fitted.predict(rare[-1:])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        NetFormerRegressor(random_state=0, n_samples=1).fit(rare, Y)
    assert {str(one.message) for one in said} == {
        "column 'size': 'to ask' taken for a gap",
        "column 'size': 'soon' in row 120 taken for a gap",
    }


def test_a_text_column_is_parsed_once_in_fit(monkeypatch):
    seen, plain = [], cells.read_number
    monkeypatch.setattr(cells, "read_number", lambda cell, form: seen.append(cell) or plain(cell, form))
    table = frame(size=[str(i % 17) for i in range(N - 1)] + ["to ask"])
    read(table, Y)
    assert len(seen) == len(set(seen)) == 18


def test_the_share_of_gaps_is_kept():
    table = frame(
        a=np.where(np.arange(N) < 30, np.nan, VALUE[::-1]),
        b=np.where(np.arange(N) < 12, -99999, np.arange(N) ** 2),
        c=[["x", None, "y", ""][i % 4] for i in range(N)],
        d=["x", "y"] * (N // 2),
        e=[str(i % 17) for i in range(N - 6)] + ["to ask"] * 3 + ["?"] * 3,
        f=pd.Series(pd.date_range("2020-01-01", periods=N)).where(np.arange(N) % 2 > 0),
    )
    found = {column.name: column.missing for column in read(table, Y)[0].table}
    assert found == {"value": 0.0, "a": 0.25, "b": 0.1, "c": 0.5, "d": 0.0, "e": 0.05, "f": 0.5}
    assert [column.missing for column in read(table[["value", "a"]].to_numpy(), Y)[0].table] == [0.0, 0.25]


def test_numbers_that_stand_for_a_gap_are_found():
    some = rng.normal(size=50)
    assert stand_ins(np.r_[some, [-999.0] * 3]) == (-999.0,)
    assert stand_ins(np.r_[some, [-999.0] * 3, [9999.0] * 5]) == (9999.0, -999.0)
    assert stand_ins(np.r_[some, -999.0]) == ()  # once is an outlier
    assert stand_ins(np.r_[np.zeros(20), np.ones(20)]) == ()
    assert stand_ins(np.r_[np.zeros(20), np.arange(1.0, 30.0)]) == ()
    X = np.c_[VALUE, rng.normal(size=N)]
    X[:6, 1] = -999
    reading, z, _ = read(X, Y)
    assert reading.table[1].gaps == (-999.0,)
    assert reading.table[1].note == "-999 taken for a gap"
    np.testing.assert_array_equal(z[:6, 1], reading.standardize(np.array([[0.0, np.nan]]))[0, 1])


def frame(**more):
    return pd.DataFrame({"value": VALUE} | more)


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (np.full(N, 3.5), "constant, 3.5 in all rows"),
        (["same"] * N, "one level in all rows"),
        ([None] * N, "holds no value"),
        (np.arange(N), "a row number or an id"),
        (VALUE, "a copy of value"),
        ([f"text {i}" for i in range(N)], r"a text that differs in nearly every row (120 of 120)"),
        ([[1, 2]] * N, "holds lists or the like"),
    ],
)
def test_columns_that_say_nothing_are_left_out_with_a_reason(cells, why):
    reading, z, _ = read(frame(other=cells), Y)
    assert reading.left_out == (("other", why),)
    assert (reading.columns, z.shape) == (("value",), (N, 1))
    assert reading.described()["kind"].tolist() == ["number", "left out"]
    np.testing.assert_array_equal(reading.standardize(frame()), reading.standardize(frame(other=cells)))


def test_an_id_by_name_is_left_out_and_a_year_is_not():
    shuffled = rng.permutation(N)
    assert read(frame(customer_id=shuffled + 1000), Y)[0].left_out == (("customer_id", "a row number or an id"),)
    assert read(frame(year=np.arange(N) + 1900), Y)[0].left_out == ()
    assert read(frame(length=shuffled + 1000), Y)[0].left_out == ()
    assert read(pd.DataFrame({"x": np.arange(N)}), Y)[0].columns == ("x",)  # the only column there is
    assert read(np.arange(N)[:, None], Y)[0].columns == ("x0",)


def test_a_column_that_gives_the_target_away_is_flagged():
    (note,) = read(frame(other=-3 * Y + 1), Y, target="price")[0].notes
    assert note.startswith("'other' alone predicts 'price' with an R2 of 1.0000; drop it if it is not known before")
    assert read(frame(), Y)[0].notes == ()
    heavy = np.random.default_rng(0).standard_t(1.5, size=N)  # a squash would bend it
    (note,) = read(frame(other=2 * heavy), heavy)[0].notes
    assert note.startswith("'other' alone predicts 'y' with an R2 of 1.0000")
    assert read(frame(), heavy**3 * 1e290)[0].notes == ()  # large numbers are no trouble


@pytest.mark.parametrize("size", [1e-300, 1.0, 1.7e308])
def test_giving_away_does_not_depend_on_the_unit(size):
    told = read(frame(other=Y / np.abs(Y).max() * size), Y)[0].notes
    assert len(told) == 1


@pytest.mark.parametrize(
    ("cells", "form", "note"),
    [
        (["01/02/2020", "03/04/2020"], "%m/%d/%Y", "dates taken as month before day; day before month fits every cell"),
        (["01/02/2020", "03/14/2020"], "%m/%d/%Y", ""),
        (["01/02/2020", "14/03/2020"], "%d/%m/%Y", ""),
        (["01/01/2020", "03/03/2020"], "%m/%d/%Y", ""),  # the same dates
        (["01/02/19", "03/04/19"], "%m/%d/%y", "dates taken as month before day; day before month fits every cell"),
        (["01.02.2020", "03.04.2020"], "%d.%m.%Y", ""),  # nobody writes months first with points
        (["2020-01-02", "2020-03-04"], "ISO8601", ""),
    ],
)
def test_dates_that_can_be_read_two_ways_are_said(cells, form, note):
    column, _ = kind_of([*cells, None])
    assert (column.kind, column.form) == ("date", form)
    assert column.note.startswith(note)
    assert bool(column.note) == bool(note)


def test_what_each_kind_becomes():
    many = [f"street {i % 15}" for i in range(N)]
    table = frame(
        sex=["m", "f"] * (N // 2),
        color=["red", "blue", "green"] * (N // 3),
        street=many,
        size=pd.Categorical(["S", "M", "L"] * (N // 3), ["S", "M", "L"], ordered=True),
        when=pd.date_range("2020-01-01", periods=N, freq="5D"),
    )
    season = np.sin(2 * np.pi * np.arange(N) * 5 / 365.2425)
    reading, z, _ = read(table, Y + 3 * season)
    assert reading.input_names[:2] == ("value", "sex = m")
    assert set(reading.input_names[2:5]) == {"color = red", "color = blue", "color = green"}
    assert reading.input_names[5] == "street (mean)"
    assert {"size (rank)", "size = S", "size = M", "size = L", "when", "when (year, sin)"} <= set(reading.input_names)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(0), 1)
    one = table.iloc[:3].assign(sex="other", street="street 99")
    assert reading.outside(one) == {"sex": 3, "street": 3}


def test_a_gap_gets_an_indicator_only_where_that_helps():
    gap = np.arange(N) % 4 == 0
    cells = np.where(gap, np.nan, rng.normal(size=N))
    assert read(frame(c=cells), Y + 3 * gap)[0].input_names == ("value", "c", "c missing")
    assert read(np.c_[VALUE, cells], Y + 3 * gap)[0].input_names == ("x0", "x1", "x1 missing")
    filled = read(frame(c=cells), VALUE)[0]
    np.testing.assert_array_equal(filled.numbers(frame(c=cells))[gap][:, 1], filled.table[1].fill)


def test_numbers_that_act_as_codes_get_the_mean_of_their_level():
    code = rng.integers(0, 12, N)
    effect = rng.normal(size=12)[code]
    coded = read(frame(district=code), Y + 3 * effect)[0]
    assert coded.input_names == ("value", "district", "district (mean)")
    assert coded.table[1].levels == tuple(range(12))
    assert read(frame(district=code), Y + code)[0].input_names == ("value", "district")  # a line says it
    unseen = frame(district=99).iloc[:1]
    assert coded.numbers(unseen)[0, 2] == 0.0  # the mean of all rows, in the standardised target


def test_level_means_are_shrunk_and_blind_to_a_rows_own_fold():
    codes = rng.integers(0, 8, 400)
    t = rng.normal(size=8)[codes] + rng.normal(size=400)
    t -= t.mean()
    values, own = level_means(codes, t, 8)
    plain = np.array([t[codes == k].mean() for k in range(8)])
    assert (np.abs(values[:8]) < np.abs(plain)).all()
    assert np.corrcoef(values[:8], plain)[0, 1] > 0.99
    changed = t.copy()
    changed[5] += 3.0
    assert level_means(codes, changed, 8)[1][5] == pytest.approx(own[5], abs=0.005)  # the shrinkage moves a little
    assert abs(level_means(codes, changed, 8)[0][codes[5]] - values[codes[5]]) > 0.02
    noise = rng.normal(size=400)
    _, of_noise = level_means(np.arange(400) // 2, noise - noise.mean(), 200)
    assert np.corrcoef(of_noise, noise)[0, 1] < 0.1  # a mean with its own row in it would follow the noise


def test_other_order_and_more_columns_change_nothing_and_a_missing_one_is_named():
    table = frame(city=[f"c{i % 14}" for i in range(N)], size=rng.normal(size=N))
    fitted = NetFormerRegressor(random_state=0, n_samples=3).fit(table, Y)
    expected = fitted.predict(table)
    with pytest.warns(UserWarning, match="columns that were not fitted are ignored: more"):
        np.testing.assert_array_equal(fitted.predict(table[["size", "city", "value"]].assign(more=1)), expected)
    np.testing.assert_array_equal(fitted.network_.predict(table[table.columns[::-1]]), expected)
    with pytest.raises(InputError, match=r"the table lacks 'city', read by the networks; did you mean 'City '"):
        fitted.predict(table.rename(columns={"city": "City "}))
    renamed = table.rename(columns={"city": "City ", "size": "sizes", "value": "q"})
    hints = r"the table lacks 'value', 'city', 'size', .* did you mean 'City ' for 'city', 'sizes' for 'size'\?"
    with pytest.raises(InputError, match=hints):
        fitted.predict(renamed)
    with pytest.raises(InputError, match=r"the table lacks 'value', 'city', 'size', .* found 'a', 'b'$"):
        fitted.predict(pd.DataFrame({"a": [1], "b": [2]}))
    with pytest.raises(InputError, match=r"column 'size' must hold a number .* found 'big' in row 3"):
        fitted.predict(table.assign(size=["1", "2", *["big"] * (N - 2)]))
    assert fitted.columns_["kind"].tolist() == ["number", "category", "number"]
    strange = table.assign(city=None, size=np.nan)
    assert np.isfinite(fitted.predict(strange)).all()


def test_pandas_polars_and_pyarrow_give_the_same_networks():
    table = frame(city=[f"c{i % 14}" for i in range(N)], when=pd.date_range("2020-01-01", periods=N), flag=VALUE > 0)
    expected = NetFormerRegressor(random_state=0, n_samples=3).fit(table, Y).predict(table)
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    for other in (
        arrow,
        polars.from_arrow(arrow),
        table.convert_dtypes(),
        table.convert_dtypes(dtype_backend="pyarrow"),
    ):
        fitted = NetFormerRegressor(random_state=0, n_samples=3).fit(other, Y)
        np.testing.assert_allclose(fitted.predict(table), expected, rtol=1e-9)
        np.testing.assert_allclose(fitted.predict(other), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("X", "y", "text"),
    [
        (pd.DataFrame({"a": ["x"] * N}), Y, "no column can be used beside the target: a: one level in all rows"),
        (pd.DataFrame([[1, 2]] * N, columns=["a", "a"]), Y, "column names must be unique, found more than once: 'a'"),
        (frame(), ["text"] * N, "y must be numbers, found 'text'"),
        (frame(), np.r_[np.nan, Y[1:]], "y must be finite, found nan in row 1; drop the rows without a target"),
        (frame(c=np.r_[np.inf, Y[1:]]), Y, "column 'c' must be finite, found inf in row 1"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(X, y, text):
    with pytest.raises(InputError, match=re.escape(text)):
        NetFormerRegressor().fit(X, y)


def test_sparse_tables_are_refused_with_advice():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises((TypeError, ValueError), match=r"[Ss]parse"):
        NetFormerRegressor().fit(sparse.csr_matrix(np.eye(20)), np.arange(20.0))
