"""Parameters: `params.yaml`, read and validated whole before any stage works."""

from __future__ import annotations

import re
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML, YAMLError

from netformer.errors import InputError
from netformer.networks.specs import Layout
from netformer.options import ModelOptions, TaskPrior, TrainOptions

Some = TypeVar("Some", bound=BaseModel)
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Activation = Literal["identity", "relu", "tanh", "sigmoid", "gelu"]
SearchObjective = Literal["error", "valid_error", "params", "edges", "columns", "bytes", "multiply_adds", "robustness"]
MOST_NESTED = 100  # brackets in a file of params
Source = Literal["synthetic", "csv", "folder", "url", "real"]


class ParamsSection(BaseModel):
    """A section of params.yaml. Where the library has a dataclass of the same options, that is the section: it checks
    the ranges itself, and pydantic checks names and types."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Download(ParamsSection):
    """Which tasks are drawn or read, how many, and how large."""

    seed: Whole
    prior: TaskPrior
    sources: Annotated[list[Source], Field(min_length=1)]
    n_train: Count
    n_valid: Count
    n_test: Count
    n_heldout_family: Count
    n_class_train: Whole = 0  # params of the package's weights are older than these two
    n_class_test: Whole = 0
    min_rows: Annotated[int, Field(ge=20)]
    max_rows: Annotated[int, Field(ge=20)]
    max_real_rows: Annotated[int, Field(ge=40)]
    real_splits: Count = 5  # params of the package's weights are older
    csv: str
    folder: str
    target: str
    url: str
    sha256: str

    @model_validator(mode="after")
    def _ranges(self) -> Download:
        if self.min_rows > self.max_rows:
            raise ValueError(f"min_rows must be at most max_rows, got {self.min_rows} > {self.max_rows}")
        return self


class Zoo(ParamsSection):
    """Which networks are drawn, how they are trained, which are kept."""

    seed: Whole
    max_features: Count
    max_hidden_layers: Annotated[int, Field(ge=1, le=4)]
    max_width: Annotated[int, Field(ge=1, le=64)]
    min_hidden_layers: Count
    min_width: Count
    activations: Annotated[list[Activation], Field(min_length=1)]
    bias_share: Share
    skip_share: Share
    sparse_share: Share
    min_density: Share
    duplicate_share: Share
    networks_per_task: Count
    class_networks_per_task: Count = 8
    steps: Count
    lr: Positive
    batch_size: Count
    weight_decay: NonNegative
    min_valid_r2: float
    max_gap: Positive

    @model_validator(mode="after")
    def _ranges(self) -> Zoo:
        for low, high in (("min_hidden_layers", "max_hidden_layers"), ("min_width", "max_width")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} must be at most {high}, got {getattr(self, low)} > {getattr(self, high)}")
        return self

    @property
    def layout(self) -> Layout:
        """Shape of every stack of networks."""
        return Layout(self.max_features, self.max_hidden_layers, self.max_width)

    @property
    def spec(self) -> dict:
        """Arguments of `specs.draw_specs`."""
        names = {"min_hidden_layers", "min_width", "bias_share", "skip_share", "sparse_share", "min_density"}
        return self.model_dump(include=names) | {"activations": tuple(self.activations)}

    @property
    def optimizer(self) -> dict:
        """Arguments of `zoo.build.train_networks`."""
        return self.model_dump(include={"steps", "lr", "batch_size", "weight_decay"})


class Tokenize(ParamsSection):
    """In which form networks are stored as edges."""

    canonical: bool


class Metafeatures(ParamsSection):
    """How much of a table pymfe sees."""

    max_rows: Annotated[int, Field(ge=10)]
    max_features: Count


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Train(TrainOptions):
    """What training reads and minimises, how many processes share a step, and what they compute on."""

    devices: Count = 1  # params of the package's weights are older than these four
    nodes: Count = 1
    strategy: Literal["auto", "ddp"] = "auto"
    accelerator: Literal["auto", "cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("zoo_tasks", "stream_tasks"):
            if getattr(self, name) < self.devices * self.nodes:
                most = f"{self.devices} x {self.nodes}"
                raise ValueError(f"{name} must be at least devices x nodes, got {getattr(self, name)} < {most}")


class Sample(ParamsSection):
    """How many networks are written for each held-out task."""

    seed: Whole
    n_samples: Count
    n_seeds: Count


class Evaluate(ParamsSection):
    """What the baselines may spend."""

    seed: Whole
    scratch_networks: Count
    mlp_tasks: Count


class Search(ParamsSection):
    """How many networks are scored for how many held-out tasks, and what for (netformer.search)."""

    seed: Whole = 0
    n_tasks: Count = 12
    evaluations: Count = 2000
    population: Annotated[int, Field(ge=2)] = 100
    objectives: Annotated[list[SearchObjective], Field(min_length=2, max_length=4)] = ["error", "params"]
    constraints: dict[str, float] = {}


class Params(ParamsSection):
    """The whole of params.yaml: one section per stage, and the model."""

    download: Download
    zoo: Zoo
    tokenize: Tokenize
    metafeatures: Metafeatures
    model: ModelOptions
    train: Train
    sample: Sample
    evaluate: Evaluate
    search: Search = Search()  # params of the package's weights are older

    @model_validator(mode="after")
    def _runs(self) -> Params:
        seeds, splits = self.sample.n_seeds, self.download.real_splits
        if "real" in self.download.sources and seeds != splits:
            raise ValueError(
                f"sample.n_seeds must equal download.real_splits (a seed per split), got {seeds} and {splits}"
            )
        return self


def load_params(root: Path) -> Params:
    """Read and validate `params.yaml` under `root`.

    Raises InputError with one line per problem: parameter, constraint, value found.
    """
    return read_params(Path(root) / "params.yaml", Params)


def read_params(path: Path, kind: type[Some]) -> Some:
    """Read and validate a file of params. Raises InputError as `load_params` does."""
    if not path.exists():
        raise InputError(f"{path} does not exist; run from the repository's root")
    try:
        text = path.read_text(encoding="utf-8")
        steps = (1 if mark in "[{" else -1 for mark in re.findall(r"[][{}]", text))
        if max(accumulate(steps), default=0) > MOST_NESTED:  # each costs more than the one around it
            raise ValueError(f"more than {MOST_NESTED} brackets open at once; close them")
        values = YAML(typ="safe").load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from None
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            where = ".".join(str(part) for part in item["loc"]) or path.name
            message = item["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
            message = message.replace("Unexpected keyword argument", "is no parameter")
            where += "." if item["type"] == "value_error" and "." not in message.split()[0] else " "
            found = f", got {item['input']!r}" if isinstance(item["input"], str | int | float) else ""
            lines.append(f"{where}{message}{found}")
        raise InputError("; ".join(lines)) from None
