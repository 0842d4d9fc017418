"""Options: what the sections of params.yaml and the functions of the library share, each with its meaning and range.

An option is added here, in params.yaml and params/pretrained.yaml, and where it is used. Where there are defaults, they
are those of params.yaml.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

from netformer.errors import InputError, require

Condition = Literal["none", "metafeatures", "task", "both"]
Prior = Literal["learned", "normal"]
CONDITIONS: tuple[str, ...] = get_args(Condition)
PRIORS: tuple[str, ...] = get_args(Prior)
LEAST_ROWS = 5  # of a fresh task
NETWORKS_PER_CLASS_TASK = 3  # that training writes for a fresh task with classes


@dataclass(frozen=True)
class TaskPrior:
    """What random tasks look like, as in the section `download.prior` of params.yaml, which has these values too.

    min_features: least number of features. noise_low, noise_high: standard deviation of the noise relative to that of
    the clean target, log-uniform. weak_share: tasks whose noise follows from a ceiling R2 uniform in (0.02, 0.95)
    instead. noise_share: tasks with heavy-tailed or input-dependent noise. warp_share: columns under a monotone warp
    (heavy tails, Kumaraswamy, a floor). level_share: columns with few values (rounded, binary, category codes).
    derived_share: columns replaced by a noisy copy, a square or a mix of others. target_share: tasks whose target is
    exponentiated, raised to a power, clipped, or cut into levels.

    Raises InputError for a value out of range.
    """

    min_features: int = 2
    noise_low: float = 0.03
    noise_high: float = 0.7
    weak_share: float = 0.0
    noise_share: float = 0.0
    warp_share: float = 0.0
    level_share: float = 0.0
    derived_share: float = 0.0
    target_share: float = 0.0

    def __post_init__(self) -> None:
        require(self, ["min_features"], low=1)
        require(self, [name for name in vars(self) if name.endswith("_share")], low=0, high=1)
        if not 0 < self.noise_low <= self.noise_high:
            raise InputError(
                f"noise_low must be above 0 and at most noise_high, got {self.noise_low} and {self.noise_high}"
            )


@dataclass(frozen=True)
class TablePrior:
    """What the columns of fresh tasks hold beside numbers, as in the section `train.tables` of params.yaml, which has
    these values too. Stored tasks hold numbers alone.

    category_share: columns that are categories, as text or as integer codes. gap_share: columns with gaps, at random or
    not. outlier_share: columns with a few wild cells, or a number that stands for gaps. time_share: tasks whose rows
    are in order of time, so that what is asked lies beyond what is known.

    Raises InputError for a value out of range.
    """

    category_share: float = 0.0
    gap_share: float = 0.0
    outlier_share: float = 0.0
    time_share: float = 0.0

    def __post_init__(self) -> None:
        require(self, vars(self), low=0, high=1)


@dataclass(frozen=True)
class ModelOptions:
    """Options of the model, as in the section `model` of params.yaml, which has these values too.

    condition: which channels of the condition exist. prior: p(z | condition), learned or standard normal. d_model,
    n_heads: width and attention heads of the transformers. d_condition: width of the embedding of each channel.
    n_encoder_layers, n_structure_layers: depth of the transformers. d_writer: width of the MLP that writes weights.
    d_global, d_vertex: latent numbers for the whole network and per vertex. temperature, structure_temperature: see
    `TransformerVAE.draw`. orientations, order_noise: in how many orientations of its task the networks of one task are
    written, and how random these are (`orientation`). d_row, rounds, kinds: see `TaskEncoder`.

    Raises InputError for a value out of range.
    """

    condition: Condition = "both"
    prior: Prior = "learned"
    d_model: int = 128
    d_condition: int = 256
    n_heads: int = 4
    n_encoder_layers: int = 2
    n_structure_layers: int = 1
    d_writer: int = 512
    d_global: int = 48
    d_vertex: int = 8
    temperature: float = 0.2
    structure_temperature: float = 0.6
    orientations: int = 8
    order_noise: float = 0.5
    d_row: int = 192
    rounds: int = 0
    kinds: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("condition", CONDITIONS), ("prior", PRIORS)):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        at_least_0 = {"temperature", "structure_temperature", "order_noise", "rounds"}
        require(self, at_least_0, low=0)
        require(self, asdict(self).keys() - at_least_0 - {"condition", "prior", "kinds"}, low=1)
        if self.d_model % self.n_heads:
            raise InputError(f"d_model must be a multiple of n_heads, got {self.d_model} and {self.n_heads}")


@dataclass(frozen=True)
class LossWeights:
    """Weight of each part of the loss, as in the section `train.loss` of params.yaml, which has these values too.

    type, number, parent: cross-entropies of the structure. weight: squared error of the weights times sensitivity.
    function: of predictions, decoded against original. beta_structure, beta: KL of the latents of the structure and of
    the others. prior_raw, prior_solved: networks written from the prior against y, as written and with the output
    layer solved. classes: networks written for fresh tasks with classes, by the log loss. Every part is logged apart,
    without its weight.

    Raises InputError for a negative weight.
    """

    type: float = 1.0
    number: float = 1.0
    parent: float = 1.0
    weight: float = 10.0
    function: float = 1.0
    beta_structure: float = 1e-3
    beta: float = 1e-4
    prior_raw: float = 2.0
    prior_solved: float = 2.0
    classes: float = 2.0

    def __post_init__(self) -> None:
        require(self, vars(self), low=0)


@dataclass(frozen=True)
class BatchOptions:
    """What a step reads, as in the section `train` of params.yaml.

    zoo_tasks: tasks of the zoo. networks_per_task: networks of each. stream_tasks: fresh tasks. min_rows, max_rows:
    context rows of a fresh task, log-uniform. budget_share: share of steps whose fresh networks are written under
    random constraints on size, depth and activations. mode_share: chance that a fresh task is answered as `sampling`
    does first, with the mode of the prior, in the canonical orientation. condition_dropout: chance that a channel of
    the condition is withheld. metafeature_noise: standard deviation of what is added to the meta-features of the zoo,
    in units of theirs, lest its tasks be known by heart. tables: what the columns of fresh tasks hold beside numbers.
    class_share: share of the networks for fresh tasks that are written for tasks with classes, for each of them
    `NETWORKS_PER_CLASS_TASK`.

    Raises InputError for a value out of range.
    """

    zoo_tasks: int
    networks_per_task: int
    stream_tasks: int
    min_rows: int
    max_rows: int
    budget_share: float
    mode_share: float
    condition_dropout: float
    metafeature_noise: float
    tables: TablePrior = TablePrior()
    class_share: float = 0.0

    def __post_init__(self) -> None:
        require(self, ["zoo_tasks", "networks_per_task", "stream_tasks"], low=1)
        require(self, ["min_rows", "max_rows"], low=LEAST_ROWS)
        require(self, ["budget_share", "mode_share", "condition_dropout"], low=0, high=1)
        require(self, ["metafeature_noise"], low=0)
        if self.min_rows > self.max_rows:
            raise InputError(f"min_rows must be at most max_rows, got {self.min_rows} > {self.max_rows}")
        require(self, ["class_share"], low=0, high=1)
        if self.class_share and not (self.class_tasks and self.number_tasks):
            raise InputError(
                f"class_share must be 0, or leave tasks of both kinds among {self.stream_tasks} stream_tasks "
                f"({NETWORKS_PER_CLASS_TASK} of them make a task with classes), got {self.class_share}"
            )

    @property
    def class_tasks(self) -> int:
        """Fresh tasks of a step with classes."""
        return round(self.class_share * self.stream_tasks / NETWORKS_PER_CLASS_TASK)

    @property
    def number_tasks(self) -> int:
        """Fresh tasks of a step whose target is a number; each takes one network."""
        return max(self.stream_tasks - NETWORKS_PER_CLASS_TASK * self.class_tasks, 0)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(BatchOptions):
    """How a model is trained, as in the section `train` of params.yaml.

    seed: of initial weights and batches. steps: of the optimisers. lr: peak learning rate, one cycle. weight_decay:
    decoupled. precision: of the model's arithmetic. loss: weights of the parts. The rest: see `BatchOptions`.

    Raises InputError for a value out of range.
    """

    seed: int
    steps: int
    lr: float
    weight_decay: float
    precision: Literal["bf16-mixed", "32-true"]
    loss: LossWeights

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, ["seed", "steps", "weight_decay"], low=0)
        if not self.lr > 0:
            raise InputError(f"lr must be greater than 0, got {self.lr}")
