"""NetFormerRegressor(search=...): one network of the front is the answer, under scikit-learn's conventions."""

import numpy as np
import pandas as pd
import pytest
from commands import small_model
from sklearn.base import clone
from sklearn.datasets import make_friedman1

from netformer import NetFormer, NetFormerRegressor
from netformer.errors import InputError
from netformer.search.table import Search, search_table

QUICK = {"evaluations": 60, "population": 20}


@pytest.fixture(scope="module", autouse=True)
def small():
    with small_model():
        yield


@pytest.fixture(scope="module")
def table():
    X, y = make_friedman1(150, n_features=6, noise=0.5, random_state=0)
    return pd.DataFrame(X, columns=list("abcdef")), pd.Series(10 * y, name="price")


@pytest.fixture(scope="module")
def fitted(table):
    few = Search(constraints={"max_columns": 2, "max_params": 40}, **QUICK)
    return NetFormerRegressor(search=few, random_state=0).fit(*table)


def test_the_answer_is_the_network_of_least_error_under_the_constraints(fitted, table):
    X, _ = table
    front = fitted.networks_
    chosen = fitted.network_.about["search"]["chosen"]
    assert len(front) >= 2
    assert chosen == int(front.expected_r2.argmax())
    np.testing.assert_array_equal(fitted.predict(X), front.predict(X, chosen))
    assert int(front.networks.specs.n_params.max()) <= 40
    assert (fitted.feature_importances_ > 0).sum() <= 2
    values = np.array(fitted.network_.about["search"]["values"])
    np.testing.assert_allclose(values[:, 0], 1 - front.expected_r2.numpy(), atol=1e-6)
    assert "steps" not in fitted.network_.about


def test_it_is_what_the_search_finds_for_the_table(fitted, table):
    from netformer.generation.fitted import netformer_of, seed_of

    how = {"constraints": {"max_columns": 2, "max_params": 40}, "space": "both", "target": "price"}
    _, front = search_table(netformer_of(None), *table, seed=seed_of(0), **how, **QUICK)
    np.testing.assert_array_equal(front.predict(table[0], 0), fitted.networks_.predict(table[0], 0))


def test_nothing_depends_on_columns_that_the_network_does_not_read(fitted, table):
    X, _ = table
    unread = [name for name, worth in zip(X, fitted.feature_importances_, strict=True) if worth == 0]
    assert len(unread) >= 4
    moved = X.assign(**{name: X[name].to_numpy()[::-1] for name in unread})
    np.testing.assert_array_equal(fitted.predict(X), fitted.predict(moved))
    np.testing.assert_array_equal(fitted.predict_interval(X), fitted.predict_interval(moved))


def test_intervals_hold_about_as_often_as_they_say(fitted):
    X, y = make_friedman1(600, n_features=6, noise=0.5, random_state=1)
    low, high = fitted.predict_interval(pd.DataFrame(X, columns=list("abcdef")), 0.8).T
    assert 0.7 < ((low <= 10 * y) & (10 * y <= high)).mean() < 0.92


def test_std_is_the_noise_for_the_front_is_no_sample_of_equals(fitted, table):
    _, std = fitted.predict(table[0], return_std=True)
    np.testing.assert_allclose(std, fitted.noise_)


def test_it_is_saved_with_its_front(fitted, table, tmp_path):
    fitted.save(tmp_path / "found")
    again = NetFormerRegressor.load(tmp_path / "found")
    np.testing.assert_array_equal(again.predict(table[0]), fitted.predict(table[0]))
    np.testing.assert_array_equal(again.predict(table[0], return_std=True)[1], fitted.noise_)
    assert len(again.networks_) == len(fitted.networks_)
    assert again.search is None


def test_it_is_cloned_and_set_as_any_estimator():
    estimator = NetFormerRegressor(search=Search(constraints={"max_params": 9}, evaluations=5))
    other = clone(estimator).set_params(search__evaluations=7, search__space="latents")
    assert estimator.search.evaluations == 5
    assert other.get_params()["search__evaluations"] == other.search.evaluations == 7
    assert other.search.constraints == {"max_params": 9}
    assert "search=Search(" in repr(other)


@pytest.mark.parametrize("y", [np.full(30, 4.5), np.arange(30.0)])
def test_where_nothing_can_be_learned_the_mean_answers(y):
    X = np.ones((30, 2))
    found = NetFormerRegressor(search=Search(**QUICK)).fit(X, y)
    np.testing.assert_allclose(found.predict(X), y.mean())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": "nsga2"}, r"search must be None or a netformer\.search\.table\.Search, got 'nsga2'"),
        ({"search": Search}, r"search must be None or a netformer\.search\.table\.Search, got <class"),
        ({"max_params": 50}, "max_params is not for a search; bounds are its constraints, such as max_params"),
        ({"refine_steps": 3}, "refine_steps is not for a search"),
        ({"activations": ("relu",)}, "activations is not for a search"),
        ({"search": Search(["speed"])}, "objective must be a function or one of error, .*, got 'speed'"),
        ({"search": Search(constraints={"max_params": 1})}, "max_params must be at least 2 for any network, got 1"),
        ({"search": Search(evaluations=0)}, "evaluations must be a whole number of at least 1, got 0"),
        ({"model": NetFormer.load_arrays()}, "a search needs the model in torch; load it with NetFormer.load"),
    ],
)
def test_bad_input_is_one_line(table, change, message):
    with pytest.raises(InputError, match=message) as caught:
        NetFormerRegressor(**({"search": Search(**QUICK)} | change)).fit(*table)
    assert "\n" not in str(caught.value)


def test_several_targets_are_refused(table):
    X, y = table
    with pytest.raises(InputError, match="a search is for one target, got 2: 'price', 'rent'"):
        NetFormerRegressor(search=Search(**QUICK)).fit(X, pd.DataFrame({"price": y, "rent": -y}))
