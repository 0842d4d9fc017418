"""cross_validate: several targets, and targets that it refuses."""

import numpy as np
import pandas as pd
import pytest

from netformer.benchmark.scoring import cross_validate
from netformer.errors import InputError
from netformer.generation.classifier import NetFormerClassifier
from netformer.generation.estimator import NetFormerRegressor


def test_several_targets_are_scored_as_each_of_them_alone():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = pd.DataFrame({"a": X[:, 0] + 0.1 * rng.normal(size=60), "b": rng.normal(size=60)})
    estimator = NetFormerRegressor(n_samples=2, random_state=0)
    both = cross_validate(X, y, estimator=estimator, beside=["ridge"], repeats=1)
    assert both.index.names == ["target", "method"]
    assert list(dict.fromkeys(both.index.get_level_values("target"))) == ["a", "b"]
    for name in y:
        alone = cross_validate(X, y[name], estimator=estimator, beside=["ridge"], repeats=1)
        np.testing.assert_allclose(both.loc[(name, "ridge"), "r2"], alone.loc["ridge", "r2"])
    assert both.loc[("a", "wide"), "r2"] > 0.9 > 0.2 > both.loc[("b", "wide"), "r2"]


@pytest.mark.parametrize("y", [None, 5.0, np.zeros((20, 2, 2))])
def test_no_target_is_refused(y):
    with pytest.raises(InputError, match="y must be a column of numbers or labels"):
        cross_validate(np.zeros((20, 2)), y)


def test_targets_that_do_not_belong_together_are_refused():
    X, y = np.zeros((20, 2)), np.arange(40.0).reshape(20, 2)
    with pytest.raises(InputError, match=r"a target of classes is one column, got y of shape \(20, 2\)"):
        cross_validate(X, y, estimator=NetFormerClassifier())
    with pytest.raises(InputError, match=r"test must have the targets of y, of shape \(20, 2\), got \(20,\)"):
        cross_validate(X, y, test=(X, y[:, 0]))
