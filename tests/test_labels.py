"""Labels: what a target is taken for, its classes whatever their type, one line for those nothing can be learned of."""

import numpy as np
import pandas as pd
import pytest

from netformer.errors import InputError
from netformer.tables.intake import take_in
from netformer.tables.labels import check_classes, codes_in, labels_in, task_type

S = pd.Series
NONE = None


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (S(["b", "a", None, " a "]), ("a", "b")),
        (S(["x", "y"], dtype="category"), ("x", "y")),
        (S([2, 1, 7, 2], dtype="category"), (1, 2, 7)),
        (S([True, False, True]), (False, True)),
        (S([True, None, False], dtype="boolean"), (False, True)),
        (S([True, None, False]), (False, True)),
        (S(["true", "FALSE", "true"]), ("FALSE", "true")),
        (S([7, -3, 7]), (-3, 7)),
        (S([0.0, 1.0, np.nan]), (0, 1)),
        (S([0, 1, 2, 3]), (0, 1, 2, 3)),
        (S([3, 2, 1]), (1, 2, 3)),
        (S([1, 2, None], dtype="Int64"), (1, 2)),
    ],
)
def test_text_categories_truth_values_and_codes_are_classes(cells, classes):
    assert task_type(cells) == "classification"
    codes, labels = labels_in("y", cells)
    assert labels == classes
    assert [type(label) for label in labels] == [type(label) for label in classes]
    known = cells.notna().to_numpy()
    assert (codes[~known] == -1).all()
    for cell, code in zip(cells[known], codes[known], strict=True):
        assert labels[code] == (cell.strip() if isinstance(cell, str) else cell)
    np.testing.assert_array_equal(codes_in(cells, labels), codes)


@pytest.mark.parametrize(
    "cells",
    [
        S([0.5, 1.0, 2.0]),
        S([3, 4, 5]),
        S([0, 1, 3]),
        S(np.arange(11)),
        S(["1,5", "2", "3,25"]),
        S(pd.to_datetime(["2020-01-01", "2021-01-01"])),
    ],
)
def test_other_numbers_and_dates_are_no_classes_unless_asked_for(cells):
    assert task_type(cells) == "regression"
    assert task_type(cells, "classification") == "classification"
    assert task_type(S(["a", "b"]), "regression") == "regression"


def test_cells_of_another_file_are_read_as_the_classes_known():
    assert codes_in(S(["1", "b", None]), ("1", "a", "b")).tolist() == [0, 2, -1]
    assert codes_in(S([1, 2]), ("1", "a", "b")).tolist() == [0, -1]
    assert codes_in(S([1.0, np.nan, 5.0, 0.0]), (0, 1)).tolist() == [1, -1, -1, 0]
    assert codes_in(S(["true", "False"]), (False, True)).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            S(["a", 1, "b"]),
            r"labels of target 'y' must be of one type, found 'a' \(text\) in row 1 and 1 \(number\) in row",
        ),
        (S([NONE, True, 1]), r"found True \(truth value\) in row 2 and 1 \(number\) in row 3; write all as text"),
        (S([[1], [2]]), r"target 'y' must hold text, numbers or truth values, found \[1\]"),
        (S(pd.to_datetime(["2020-01-01", "2021-01-01"])), "target 'y' holds dates or durations, no classes"),
        (
            S([1.5, 2, 3]),
            "target 'y' looks like a number, found 1.5 among 3 different values in 3 rows; take it for one",
        ),
    ],
)
def test_cells_that_are_no_labels_are_one_line(cells, message):
    with pytest.raises(InputError, match=message):
        labels_in("y", cells)
    with pytest.raises(InputError, match="task must be one of auto, classification, regression, got 'both'"):
        task_type(cells, "both")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["a"] * 9, "target 'y' must vary, found one class, 'a' in all rows; choose another column"),
        (list("abcde") + ["a"] * 3, "holds 5 different values in 8 rows, too many for classes: 'a', 'b', 'c', 'd', .."),
        (
            ["a", "b", "b", "c", "b", "a", "a"],
            "needs at least 2 rows, 'c' of target 'y' stands in row 4 alone; drop such",
        ),
        (
            list("aaaabbbcde") + ["a"] * 3,
            "'c' of target 'y' stands in row 8 alone, and 2 more classes in one each; drop",
        ),
    ],
)
def test_classes_that_nothing_can_be_learned_of_are_one_line(cells, message):
    with pytest.raises(InputError, match=message):
        check_classes("y", *labels_in("y", S(cells)))
    check_classes("y", *labels_in("y", S(["a", "b"] * 4)))


def test_a_file_is_taken_in_with_classes_and_says_so(tmp_path):
    table = pd.DataFrame({"a": np.arange(30.0), "y": ["no", "yes", "maybe"] * 10})
    table.loc[4, "y"] = None
    path = tmp_path / "t.csv"
    table.to_csv(path, index=False)
    intake = take_in(path, "y")
    assert intake.classes == ("maybe", "no", "yes")
    assert intake.target().tolist() == table["y"].dropna().tolist()
    assert intake.X.index.tolist() == [row for row in range(30) if row != 4]
    assert intake.notes == [
        f"{path}: dropped 1 row without a target 'y'",
        f"{path}: target 'y' is taken for 3 classes",
    ]
    table.assign(y=np.arange(30) % 3).to_csv(path, index=False)
    way_out = "target 'y' is taken for 3 classes, 0, 1, 2; if it is a number: --task regression"
    assert take_in(path, "y").notes == [f"{path}: {way_out}"]
    number = take_in(path, "y", task="regression")
    assert number.classes == ()
    assert number.y.dtype == np.float64
    (note,) = number.notes
    assert note.endswith(
        "holds 3 whole numbers, 0 to 2, and is taken for a number; if they are classes: --task classification"
    )
