"""Generator: a table in, networks out."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from netformer.arrays import functions
from netformer.arrays.devices import device_of, enough_memory, made_on, moved
from netformer.arrays.namespace import Tensor
from netformer.errors import InputError
from netformer.exports.population import Population, html_of
from netformer.generation.sampling import sample_networks
from netformer.model.arrays import ArrayModel
from netformer.model.prompt import FREE, Prompt, check_request
from netformer.model.store import load_arrays, load_model
from netformer.networks.stack import Networks, concatenate
from netformer.tables.reading import Reading, read
from netformer.tasks.metafeatures import MetaFeatureTransform, get_meta_features, limit_table
from netformer.tasks.task import TRAIN
from netformer.tasks.view import TaskStack, canonicalize_tasks

if TYPE_CHECKING:
    import torch

PACKAGE = Path(__file__).parents[1] / "pretrained"
CONDITION_ROWS = 1000  # the task encoder reads at most that many rows of a table
HEAD_ROWS = 10_000  # the output layer of a network is solved on at most that many; that of the wide network on all
TARGET_TEMPERATURES = (1.0, 3.0, 6.0, 10.0)  # times the model's own: samples of many qualities


class NetFormer:
    """A trained NetFormer with its meta-feature transform: table in, networks out.

    model: a `TransformerVAE`, in torch, or an `ArrayModel`, which writes the same networks in numpy.
    """

    def __init__(self, model: Any, transform: MetaFeatureTransform) -> None:
        self.model = model
        self.transform = transform

    @classmethod
    def load(cls, path: str | Path | None = None, device: str | torch.device = "cpu") -> NetFormer:
        """The model in a folder the pipeline wrote; without a path, the weights of the package. device: on which it
        writes, cpu, cuda, cuda:1 or auto (cuda if there is one); networks are on the CPU either way, and the same up to
        rounding. Raises InputError, one line, for a folder that is missing, incomplete, damaged or of another format,
        and for a device that is not there."""
        model, transform = load_model(PACKAGE if path is None else Path(path))
        return cls(model.to(device_of(device)), transform)

    @classmethod
    def load_arrays(cls, path: str | Path | None = None) -> NetFormer:
        """The same without torch: what estimators and the command line write with. Raises InputError as `load`."""
        return cls(*load_arrays(PACKAGE if path is None else Path(path)))

    def require_torch(self, what: str) -> None:
        """Raises InputError where the model is one in arrays, which has no gradients: `what` needs it in torch."""
        if isinstance(self.model, ArrayModel):
            raise InputError(f"{what} needs the model in torch; load it with NetFormer.load, not load_arrays")

    @property
    def _xp(self) -> Any:
        """The functions of what the model computes with, see `arrays.namespace`."""
        if isinstance(self.model, ArrayModel):
            return functions
        import torch

        return torch

    def __repr__(self) -> str:
        layout = self.model.layout
        size = sum(math.prod(part.shape) for part in self.model.state_dict().values())
        return (
            f"NetFormer of {size:,} parameters\n"
            f"writes networks of up to {layout.max_features} inputs and {layout.max_hidden_layers} hidden layers of up "
            f"to {layout.max_width} units"
        )

    def _repr_html_(self) -> str:
        names = ("condition", "d_latent", "temperature")
        return html_of(self, ("setting", "value"), [(name, getattr(self.model, name)) for name in names])

    def generate(
        self,
        X: Any,
        y: Any,
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

        One of them is written from the mode of the latent prior, whatever `random_state`; it is the only one if one is
        asked for. Of more columns than the model reads, those most correlated with y are used.

        X: a DataFrame or an array (rows, columns), see `tables.reading.read`. y: (rows,), finite, not constant.
        max_params, max_hidden_layers, activations: bounds on each network that always hold, see `prompt.Prompt`.
        target_r2: ask for networks of a given quality: four times `n_samples` are drawn, at four temperatures, and
        those with the nearest `expected_r2` are returned, nearest first.
        temperature: how much the networks differ, 1 is the whole prior; None: what the model was trained with.
        refine_steps: gradient steps on the latent of each network, as many as help on a fifth of the rows;
        `expected_r2` is then higher than it should be. metafeatures: give the model the meta-features too: takes some
        10 ms, is no better on tasks like those of training and worse on others.

        Raises InputError, one line, for anything else.
        """
        n_samples, refine_steps = check_request(n_samples, refine_steps, temperature, target_r2)
        if refine_steps:
            self.require_torch("refine_steps")
        prompt = Prompt(max_params, max_hidden_layers, activations)
        reading, z, t = read(X, y)
        if t.ndim > 1:
            raise InputError(f"y must be (rows,), one target, got {t.shape}; NetFormerRegressor fits several")
        if not t.any():
            raise InputError("y must not be constant: there is nothing to learn")
        described, base = self.metafeatures_of(reading, X, y, metafeatures=metafeatures), self.model.temperature
        temperatures = [temperature] if target_r2 is None else [times * base for times in TARGET_TEMPERATURES]
        written, estimates = [], []
        for number, at in enumerate(temperatures):
            networks, expected = self.write(
                z,
                t,
                n_samples,
                prompt=prompt,
                temperature=at,
                mode=number == 0,
                refine_steps=refine_steps,
                metafeatures=described,
                kinds=reading.kinds,
                random_state=random_state,
            )
            written.append(networks)
            estimates.append(expected)
        expected = self._xp.cat(estimates)
        far = -expected if target_r2 is None else (expected - target_r2).abs()
        order = self._xp.argsort(far, stable=True)[:n_samples]
        return Population(reading, concatenate(written)[order], expected[order])

    def metafeatures_of(
        self,
        reading: Reading,
        X: Any,
        y: Any,
        inputs: Int[np.ndarray, " k"] | None = None,
        metafeatures: bool = False,
    ) -> Float[Tensor, "1 k"] | None:
        """What pymfe says of the inputs of a table, in their units, for `write`; None where nobody asks. inputs: some
        of them, None for all."""
        if not metafeatures and self.model.condition != "metafeatures":
            return None
        numbers = reading.numbers(X)
        numbers = numbers if inputs is None else numbers[:, inputs]
        limits = self.transform.max_rows, self.transform.max_features
        features = get_meta_features(*limit_table(numbers, np.asarray(y, np.float64), *limits))
        return self._xp.from_numpy(self.transform.array(np.array(list(features.values())))[None])

    def write(
        self,
        z: Float[np.ndarray, "rows features"],
        t: Float[np.ndarray, " rows"],
        n_samples: int,
        *,
        prompt: Prompt = FREE,
        temperature: float | None = None,
        mode: bool = True,
        refine_steps: int = 0,
        metafeatures: Float[Tensor, "1 k"] | None = None,
        kinds: Float[np.ndarray, "features kinds"] | None = None,
        random_state: int = 0,
    ) -> tuple[Networks, Float[Tensor, " n"]]:
        """Networks that read the columns of z and answer in t, and the expected R2 of each.

        z, t: standardised, not cut (`reading.read`). metafeatures: see `metafeatures_of`. kinds: see `Reading.kinds`;
        None: z holds numbers without gaps. The others: as in `generate` and `sampling.sample_networks`.
        """
        (task, seen), place = self.task_of(z, t, kinds), self.model.device
        with made_on(place), nullcontext() if place is None else enough_memory("n_samples"):
            networks, expected = sample_networks(
                self.model,
                moved(task, place),
                moved(metafeatures, place),
                n_samples=n_samples,
                generator=self._xp.Generator().manual_seed(random_state),
                condition_tasks=moved(seen, place),
                temperature=temperature,
                mode=mode,
                refine_steps=refine_steps,
                prompt=prompt,
            )
        if place is not None:
            networks, expected = moved((networks, expected), "cpu")
        return task.views.fold_standardized(networks, z.shape[1]), expected

    def task_of(
        self,
        z: Float[np.ndarray, "rows features"],
        t: Float[np.ndarray, " rows"],
        kinds: Float[np.ndarray, "features kinds"] | None = None,
    ) -> tuple[TaskStack, TaskStack]:
        """The task that a table is, a stack of one in canonical coordinates, every row a train row: the rows that
        output layers are solved on, and those that the task encoder reads. Of more than `HEAD_ROWS` and
        `CONDITION_ROWS` as many are drawn, always the same; of more columns than the model reads, those most correlated
        with t.

        z, t, kinds: see `write`.
        """
        xp = self._xp
        rows: Int[Tensor, "t rows"] = xp.full((1, len(t)), TRAIN)
        x, y = xp.from_numpy(z)[None], xp.from_numpy(t)[None]
        said = None if kinds is None else xp.from_numpy(kinds)[None]
        task = canonicalize_tasks(x, y, rows, self.model.layout.max_features, said).float()
        order = xp.from_numpy(np.random.default_rng(0).permutation(len(t)))
        return _some_rows(task, order, HEAD_ROWS), _some_rows(task, order, CONDITION_ROWS)


def _some_rows(task: TaskStack, order: Int[Tensor, " rows"], most: int) -> TaskStack:
    """The first `most` rows in an order, if there are more."""
    if len(order) <= most:
        return task
    return task.at_rows(order[:most])
