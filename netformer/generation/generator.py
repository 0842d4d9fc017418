"""Generator: a table in, networks out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from netformer.errors import InputError
from netformer.generation.sampling import sample_networks
from netformer.model.prompt import Prompt, check_request
from netformer.model.store import load_model
from netformer.model.vae import TransformerVAE
from netformer.networks.stack import Networks, concatenate
from netformer.tasks.metafeatures import MetaFeatureTransform, get_meta_features, limit_table
from netformer.tasks.task import TRAIN
from netformer.tasks.view import TaskStack, canonicalize_tasks

PACKAGE = Path(__file__).parents[1] / "pretrained"


CONDITION_ROWS = 2000  # the task encoder reads at most that many rows of a table; the output layer is solved on all


TARGET_TEMPERATURES = (1.0, 3.0, 6.0, 10.0)  # times the model's own: samples of many qualities


@dataclass(frozen=True)
class Population:
    """Networks that read the raw columns of a table and answer in the units of its target, best first.

    expected_r2: of each on new rows, by leave-one-out of its output layer; a little high, see `head.weigh_heads`. low,
    high: where `predict` cuts each column; one network alone (`to_torch` and so on) reads rows that are cut.
    """

    networks: Networks
    expected_r2: Float[Tensor, " n"]
    low: Float[np.ndarray, " features"]
    high: Float[np.ndarray, " features"]

    def __len__(self) -> int:
        return len(self.networks)

    def predict(self, X: Float[np.ndarray, "rows features"]) -> Float[np.ndarray, "n rows"]:
        """Predictions of every network."""
        x = torch.as_tensor(np.clip(np.asarray(X), self.low, self.high).astype(np.float32)).unsqueeze(0)
        return self.networks.predict(x).numpy()

    def to_torch(self, index: int) -> torch.nn.Module:
        return self.networks.to_torch(index)

    def to_sklearn(self, index: int):
        return self.networks.to_sklearn(index)

    def to_onnx(self, index: int, path: str | Path) -> None:
        self.networks.to_onnx(index, path)


class NetFormer:
    """A trained NetFormer with its meta-feature transform: table in, networks out."""

    def __init__(self, model: TransformerVAE, transform: MetaFeatureTransform) -> None:
        self.model = model
        self.transform = transform

    @classmethod
    def load(cls, path: str | Path | None = None) -> NetFormer:
        """The model in a folder the pipeline wrote; without a path, the weights of the package."""
        return cls(*load_model(PACKAGE if path is None else Path(path)))

    def generate(
        self,
        X: Float[np.ndarray, "rows features"],
        y: Float[np.ndarray, " rows"],
        n_samples: int = 16,
        *,
        max_params: int | None = None,
        max_hidden_layers: int | None = None,
        activations: tuple[str, ...] | None = None,
        target_r2: float | None = None,
        temperature: float | None = None,
        refine_steps: int = 0,
        metafeatures: bool = False,
        random_state: int = 0,
    ) -> Population:
        """Write networks for a table, best first by `expected_r2`; every row given is read, none is held back.

        One of them is the mode of the prior, whatever `random_state`, and the only one if one is asked for.
        X: numeric, finite. y: finite, not constant. max_params, max_hidden_layers, activations: constraints that always
        hold, see `grammar.read_structure`. target_r2: of several times as many samples, drawn at rising temperatures,
        those whose `expected_r2` is nearest to it, nearest first. temperature: diversity of the samples, 1 is the whole
        prior, None what the model was trained to be sampled at. refine_steps: gradient steps on what each network is
        written from, as many as help on a fifth of the rows; they flatter `expected_r2`. metafeatures: tell the model
        what pymfe says too: some 10 ms, no better on tasks like those of training and worse on others. Of more columns
        than the model takes, those most correlated with y are read. Raises InputError otherwise, with one line.
        """
        X, y = np.asarray(X, np.float64), np.asarray(y, np.float64)
        n_samples, refine_steps = check_request(n_samples, refine_steps, temperature, target_r2)
        base = self.model.temperature
        drawn = [
            self.write(
                X,
                y,
                n_samples,
                temperature=at,
                mode=number == 0,
                refine_steps=refine_steps,
                metafeatures=metafeatures,
                random_state=random_state,
                max_params=max_params,
                max_hidden_layers=max_hidden_layers,
                activations=activations,
            )
            for number, at in enumerate(
                [temperature] if target_r2 is None else [times * base for times in TARGET_TEMPERATURES]
            )
        ]
        tasks, networks = drawn[0][0], concatenate([part for _, part, _ in drawn])
        expected = torch.cat([part for _, _, part in drawn])
        far = -expected if target_r2 is None else (expected - target_r2).abs()
        order = torch.argsort(far, stable=True)[:n_samples]
        low, high = (bound[0].numpy() for bound in tasks.views.bounds(X.shape[1]))
        return Population(tasks.views[[0] * n_samples].fold(networks[order], X.shape[1]), expected[order], low, high)

    def write(
        self,
        X: Float[np.ndarray, "rows features"],
        y: Float[np.ndarray, " rows"],
        n_samples: int,
        *,
        metafeatures: bool = False,
        random_state: int = 0,
        **options,
    ) -> tuple[TaskStack, Networks, Float[Tensor, " n"]]:
        """The table in its canonical view, networks in its coordinates, and the expected R2 of each; arguments as in
        `generate`, all but target_r2."""
        if X.ndim != 2 or y.shape != (len(X),) or len(y) < 2:
            raise InputError(f"X must be (rows, features) and y (rows,) with at least 2 rows, got {X.shape}, {y.shape}")
        if not (np.isfinite(X).all() and np.isfinite(y).all()):
            raise InputError("X and y must be finite; drop or impute missing values first")
        if y.std() == 0:
            raise InputError("y must not be constant: there is nothing to learn")
        rows: Int[Tensor, "t rows"] = torch.full((1, len(y)), TRAIN)
        tasks = canonicalize_tasks(
            torch.from_numpy(X)[None], torch.from_numpy(y)[None], rows, self.model.layout.max_features
        ).float()
        asked = {
            name: options.pop(name) for name in ("max_params", "max_hidden_layers", "activations") if name in options
        }
        known, seen = None, tasks
        if metafeatures or self.model.condition == "metafeatures":
            features = get_meta_features(*limit_table(X, y, self.transform.max_rows, self.transform.max_features))
            known = self.transform(np.array(list(features.values())))[None]
        if len(y) > CONDITION_ROWS:
            some = torch.from_numpy(np.random.default_rng(0).permutation(len(y))[:CONDITION_ROWS].copy())
            seen = TaskStack(tasks.x[:, some], tasks.y[:, some], rows[:, some], tasks.views)
        g = torch.Generator().manual_seed(random_state)
        networks, expected = sample_networks(
            self.model,
            tasks,
            known,
            n_samples=n_samples,
            generator=g,
            condition_tasks=seen,
            prompt=Prompt(**asked),
            **options,
        )
        return tasks, networks, expected
