"""Cells: numbers and dates as people write them."""

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from netformer.tables.cells import read_number
from netformer.tables.columns import column_of


def kind_of(cells):
    return column_of("c", pd.Series(cells))


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["$1,000.50", "2", "", None], [1000.5, 2, np.nan, np.nan]),
        (["1.000,5", "2,25", "-3"], [1000.5, 2.25, -3]),
        (["1,000", "12,500", "7"], [1000, 12500, 7]),
        (["0,125", "0,5"], [0.125, 0.5]),
        (["2,5", "214.62", "1.234", "0.234", "-1.234.567,8", "1,5e3"], [2.5, 214.62, 1234, 0.234, -1234567.8, 1500]),
        (["2.0%", "3 %", "n/a"], [2, 3, np.nan]),
        (["€ 5", "5 EUR", "(3)"], [5, 5, -3]),
        (["1e3", "-1.5", "?"], [1000, -1.5, np.nan]),
        ([True, False, None], [1, 0, np.nan]),
        (["TRUE", "FALSE", "-"], [1, 0, np.nan]),
        (pd.array([1, None, 3], dtype="Int64"), [1, np.nan, 3]),
        (pd.array([True, None], dtype="boolean"), [1, np.nan]),
        (pd.array([1.5, None], dtype=pd.ArrowDtype(pa.float64())), [1.5, np.nan]),
        (pd.to_timedelta(["1 day", None]), [86400, np.nan]),
        ([1, "2", 3.5], [1, 2, 3.5]),
    ],
)
def test_numbers_as_people_write_them(cells, values):
    column, found = kind_of(cells)
    assert column.kind == "number"
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(column.values(pd.Series(cells)), values)


@pytest.mark.parametrize("text", ["1.2,5", "1,234,567", "1,2.5", "1.,5", "2,5,6"])
def test_no_number_with_a_decimal_comma(text):
    assert read_number(text, ",")[1]


@pytest.mark.parametrize(
    "cells",
    [
        ["2020-02-29", "1969-12-31", None],
        ["29.02.2020", "31.12.1969", ""],
        ["02/29/2020", "12/31/1969", "?"],
        ["29/02/2020", "31/12/1969", None],
        ["29.02.20", "31.12.69", None],
        ["29/02/20", "31/12/69", None],
        ["02/29/20 00:00", "12/31/69 00:00", None],
        ["29.02.2020", "1969-12-31", None],  # ISO 8601 is read beside every form
        ["Feb 29, 2020", "Dec 31, 1969", None],
        pd.to_datetime(["2020-02-29", "1969-12-31", None]),
        pd.to_datetime(["2020-02-29", "1969-12-31", None]).tz_localize("UTC").tz_convert("Asia/Tokyo"),
        [datetime.date(2020, 2, 29), datetime.date(1969, 12, 31), None],
        pd.array([datetime.date(2020, 2, 29), datetime.date(1969, 12, 31), None], dtype=pd.ArrowDtype(pa.date32())),
    ],
)
def test_dates_are_seconds(cells):
    column, found = kind_of(cells)
    assert column.kind == "date"
    np.testing.assert_array_equal(found, [1582934400, -86400, np.nan])
    np.testing.assert_array_equal(column.values(pd.Series(cells)), found)
