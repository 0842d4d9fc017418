"""Objects: a few lines in a terminal, a small table in a notebook, whatever names a table has; networks like a list."""

import numpy as np
import pandas as pd
import pytest
import torch
from commands import small_model
from mixed import mixed
from sklearn import config_context
from sklearn.datasets import make_friedman1

from netformer import NetFormer, NetFormerRegressor, Population
from netformer.errors import InputError
from netformer.exports.population import MOST_ROWS, html_of

NASTY = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def fitted():
    X, y = make_friedman1(60, n_features=5, random_state=0)
    table = pd.DataFrame(X, columns=[NASTY, *"bcde"])
    with small_model():
        return NetFormerRegressor(n_samples=3, random_state=0).fit(table, pd.Series(y, name=NASTY))


def test_every_object_is_one_to_five_lines_in_a_terminal(fitted):
    both = NetFormerRegressor(n_samples=2)
    for shown in (NetFormer.load(), mixed(), mixed()[0], fitted.network_, fitted.networks_, fitted, both):
        lines = repr(shown).splitlines()
        assert 1 <= len(lines) <= 5
        assert all(len(line) <= 100 and line.strip() for line in lines)


def test_the_numbers_shown_are_those_of_the_object(fitted):
    population = fitted.network_
    sizes = population.networks.specs.n_params
    assert repr(population).splitlines()[:2] == [
        f"Population of 3 networks for {NASTY!r}, 5 columns",
        "parameters: {} to {}; merged {} in {} hidden units".format(
            int(sizes.min()), int(sizes.max()), *population.wide.merged_size()[::-1]
        ),
    ]
    model = NetFormer.load().model
    first, second = repr(NetFormer.load()).splitlines()
    assert first == f"NetFormer of {sum(part.numel() for part in model.state_dict().values()):,} parameters"
    assert second == "writes networks of up to 16 inputs and 2 hidden layers of up to 32 units"


def test_a_notebook_shows_a_table_and_runs_nothing_that_a_name_says(fitted):
    for shown, rows in ((fitted.network_, 3), (NetFormer.load(), 3)):
        html = shown._repr_html_()
        assert html.count("<tr>") == rows + 1
        assert html.count("<") == html.count(">")
    assert "<script" not in fitted.network_._repr_html_()
    assert "&lt;script&gt;" in fitted.network_._repr_html_()


def test_a_long_table_is_cut():
    html = html_of("many", ["<n>"], [[f"<{i}>"] for i in range(MOST_ROWS + 7)])
    assert html.count("<tr>") == MOST_ROWS + 1
    assert html.endswith("<p>and 7 more</p>")
    assert "<th>&lt;n&gt;</th>" in html
    assert "<td>&lt;0&gt;</td>" in html
    assert html_of("none") == "<p>&#x27;none&#x27;</p>"


def test_a_fitted_regressor_shows_its_parameters_and_what_was_fitted(fitted):
    """In the diagram of scikit-learn, where that is switched on, and once for all targets."""
    bare = NetFormerRegressor(n_samples=3, random_state=0)
    assert repr(fitted) == repr(bare) == "NetFormerRegressor(n_samples=3, random_state=0)"
    shown = fitted._repr_mimebundle_()
    assert shown["text/html"].endswith(fitted.network_._repr_html_())
    assert fitted._repr_html_() is not None
    assert "Population of" not in bare._repr_mimebundle_()["text/html"]
    with config_context(display="text"):
        assert set(fitted._repr_mimebundle_()) == {"text/plain"}
    X, y = make_friedman1(40, n_features=5, random_state=0)
    with small_model():
        both = NetFormerRegressor(n_samples=2, random_state=0).fit(X, np.c_[y, -y])
    assert both._repr_mimebundle_()["text/html"].count("Population of 2 networks") == 1


def test_a_population_iterates_and_is_indexed_like_an_array():
    population = mixed()
    everything = population.networks.weight
    r2 = torch.arange(6.0)
    population = Population(population.reading, population.networks, r2, population.wide)
    assert len(population) == 6
    assert [float(one.expected_r2[0]) for one in population] == r2.tolist()
    for index, expected in [
        (2, [2]),
        (-1, [5]),
        (np.int64(3), [3]),
        (slice(1, 6, 2), [1, 3, 5]),
        (slice(None, None, -1), [5, 4, 3, 2, 1, 0]),
        ([4, 0, 4], [4, 0, 4]),
        (np.array([1, -1]), [1, 5]),
        ([True, False, False, True, False, False], [0, 3]),
        (population.expected_r2 > 3, [4, 5]),
        (population.expected_r2.numpy() < 1, [0]),
    ]:
        some = population[index]
        assert some.expected_r2.tolist() == expected
        assert np.array_equal(some.networks.weight, everything[expected])
        assert (some.wide, some.intervals, some.reading) == (None, None, population.reading)


def test_an_index_that_selects_nothing_is_one_line():
    population = mixed()
    for index, text in [
        ([True, False], r"a mask must hold a truth value per network, 6, got shape \(2,\)"),
        (True, r"a mask must hold a truth value per network, 6, got shape \(\)"),
        ("0", "an index must be a number, a slice, numbers or a mask, got '0'"),
        (1.0, "an index must be a number, a slice, numbers or a mask, got 1.0"),
        ([[0]], "an index must be a number, a slice, numbers or a mask"),
        (np.zeros(6, bool), "networks must hold at least 1 network, got 0"),
        (slice(6, 9), "networks must hold at least 1 network, got 0"),
    ]:
        with pytest.raises(InputError, match=text):
            population[index]
    for index in (6, -7, [0, 6]):
        with pytest.raises(IndexError):
            population[index]
