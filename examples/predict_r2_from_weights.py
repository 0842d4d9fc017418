"""R2 of a network, predicted from its weights alone: gradient boosting on statistics of the zoo's weights.

    python examples/predict_r2_from_weights.py [data/zoo.parquet]

Fits on networks of training tasks and reports on networks of test tasks. Three sets of features: `spec` (the
architecture, no weight), `all weights` (spec and statistics of all weights together) and `by layer` (spec and
statistics of the first hidden, the inner, the output layer, the biases and the skip apart).
Nothing of the tasks is read: what a table can give at best is not known here, so that part of R2 stays unexplained.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the library beside this folder

import numpy as np
from scipy.stats import spearmanr
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import r2_score

from netformer import Zoo, load_zoo
from netformer.networks.specs import ACTIVATIONS

FLOOR = -1.0  # of a network's R2, so that a few that exploded do not decide
FEW = 20


def spec_features(zoo: Zoo) -> np.ndarray:
    """Inputs, depth, widths, number of parameters, share of edges present, bias, skip, activation of each layer."""
    specs = zoo.networks.specs
    codes = np.where(specs.widths.numpy() > 0, specs.activations.numpy(), -1)
    kinds = (codes[:, :, None] == np.arange(len(ACTIVATIONS))).reshape(len(zoo), -1)
    numbers = [specs.n_inputs, specs.depth, specs.n_params, specs.bias, specs.skip]
    return np.column_stack([*(value.numpy() for value in numbers), specs.widths.numpy(), kinds])


def statistics(weight: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Number, mean, standard deviation, root mean square, largest magnitude and quartiles of weights under the mask."""
    values = np.where(mask, weight, np.nan).reshape(len(weight), -1)
    out = np.full((len(values), 8), np.nan)  # nan: no such edge, boosting knows what to do with it
    out[:, 0] = mask.reshape(len(mask), -1).sum(1)
    some = out[:, 0] > 0
    values = values[some]
    parts = [np.nanmean(values, 1), np.nanstd(values, 1), np.sqrt(np.nanmean(values**2, 1))]
    out[some, 1:] = np.column_stack(
        [*parts, np.nanmax(np.abs(values), 1), *np.nanquantile(values, (0.25, 0.5, 0.75), 1)]
    )
    return out


def features_of(zoo: Zoo) -> dict[str, np.ndarray]:
    """The three sets of features."""
    weight, mask, layout = zoo.networks.weight.numpy(), zoo.networks.specs.mask.numpy(), zoo.networks.layout
    first, inner = slice(0, layout.max_width), slice(layout.max_width, -1)
    inputs, units = slice(1, 1 + layout.max_features), slice(1 + layout.max_features, None)
    parts = [(first, inputs), (inner, units), (slice(-1, None), units), (slice(-1, None), inputs), (slice(None), [0])]
    spec = spec_features(zoo)
    by_layer = [statistics(weight[:, rows][:, :, columns], mask[:, rows][:, :, columns]) for rows, columns in parts]
    return {
        "spec": spec,
        "all weights": np.column_stack([spec, statistics(weight, mask)]),
        "by layer": np.column_stack([spec, *by_layer]),
    }


def main(path: Path, seed: int = 0) -> dict[str, tuple[float, float]]:
    """(R2, Spearman correlation) of the predicted against the true test R2 of networks for test tasks."""
    zoos = {split: load_zoo(path, split=split) for split in ("train", "test")}
    for split, zoo in zoos.items():
        if len(zoo) < FEW:
            raise ValueError(f"{path}: needs at least {FEW} networks of {split} tasks, found {len(zoo)}")
    features = {split: features_of(zoo) for split, zoo in zoos.items()}
    target = {split: zoo.r2[:, 2].clamp(min=FLOOR).numpy() for split, zoo in zoos.items()}
    counts = {split: (len(zoo), len(set(zoo.task_ids))) for split, zoo in zoos.items()}
    assert not set(zoos["train"].task_ids) & set(zoos["test"].task_ids)
    print(
        "fitted on {} networks of {} tasks; test R2 of {} networks of {} other tasks:".format(
            *counts["train"], *counts["test"]
        )
    )
    constant = DummyRegressor().fit(features["train"]["spec"], target["train"]).predict(features["test"]["spec"])
    found = {"constant": (r2_score(target["test"], constant), 0.0)}
    for name, known in features["train"].items():
        fitted = HistGradientBoostingRegressor(max_iter=200, learning_rate=0.05, random_state=seed).fit(
            known, target["train"]
        )
        predicted = fitted.predict(features["test"][name])
        rank = 0.0 if np.ptp(predicted) == 0 else float(spearmanr(target["test"], predicted).statistic)
        found[name] = (r2_score(target["test"], predicted), rank)
    print(f"  {'features':<14}{'R2':>8}{'Spearman':>10}")
    for name, (score, rank) in found.items():
        print(f"  {name:<14}{score:8.3f}{rank:10.3f}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The test R2 of networks, predicted from their weights.")
    parser.add_argument(
        "zoo", nargs="?", type=Path, default=Path("data/zoo.parquet"), help="with tasks.parquet beside it"
    )
    try:
        main(parser.parse_args().zoo)
    except ValueError as error:
        print(f"predict_r2_from_weights: {error}", file=sys.stderr)
        raise SystemExit(2) from None
