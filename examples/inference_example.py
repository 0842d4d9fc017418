"""Networks for a table: read a CSV, write small networks for it, score them on rows nobody has seen.

    python examples/inference_example.py [MODEL_FOLDER]

The model reads the training rows, one of the networks is selected on the validation rows, test rows are scored once.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the library beside this folder

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from netformer import NetFormer
from netformer.tables.files import read_table
from netformer.tasks.task import TEST, TRAIN, VALID, split_rows


def main(model_folder: Path | None = None, n_samples: int = 16, seed: int = 0) -> dict[str, float]:
    """Test R2 of the first sample, of the sample that does best on valid rows, and of ridge."""
    model = NetFormer.load(model_folder)
    features, y = read_table(Path(__file__).parent / "diabetes.csv", target="progression")
    X = features.to_numpy()
    rows = split_rows(len(y), np.random.default_rng(seed))
    train, valid, test = rows == TRAIN, rows == VALID, rows == TEST

    population = model.generate(X[train], y[train], n_samples=n_samples, random_state=seed)
    predicted = population.predict(X)
    on_valid = [r2_score(y[valid], p[valid]) for p in predicted]
    best = int(np.argmax(on_valid))
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))).fit(X[train], y[train])
    scores = {
        "first sample": r2_score(y[test], predicted[0][test]),
        f"best of {n_samples} on valid rows": r2_score(y[test], predicted[best][test]),
        "ridge": r2_score(y[test], ridge.predict(X[test])),
    }
    print(f"{train.sum()} train, {valid.sum()} valid and {test.sum()} test rows of diabetes.csv; test R2:")
    for name, value in scores.items():
        print(f"  {name:<28}{value:7.3f}")

    network = population.to_torch(best)
    with torch.no_grad():
        alone = network(torch.as_tensor(X[test], dtype=torch.float32)).squeeze(1).numpy()
    print(f"the chosen one as torch module, {sum(p.numel() for p in network.parameters())} numbers: {network}")
    assert np.allclose(alone, predicted[best][test], rtol=1e-3, atol=1e-2 * y.std())
    return scores


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Networks for a table of real patients, beside ridge.")
    parser.add_argument(
        "model", nargs="?", type=Path, help="folder of a trained model; without it, the weights of the package"
    )
    parser.add_argument("--samples", type=int, default=16, help="networks to write")
    arguments = parser.parse_args()
    try:
        main(arguments.model, arguments.samples)
    except (ValueError, FileNotFoundError) as error:
        print(f"inference_example: {error}", file=sys.stderr)
        raise SystemExit(2) from None
