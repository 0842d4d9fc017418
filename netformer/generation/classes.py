"""Classes: networks written for a target of classes, and the output layer that they share.

The hidden layers are written as for numbers: networks for the indicator of each class against the rest; of more classes
than networks, for directions in which the means of the classes differ most (discriminant analysis, Rao 1948). The
output layer is a multinomial logistic regression on [x, hidden units of all networks],

    minimise  -sum_i w_i log p_i(class of row i) + penalty / 2 |weights|^2        p: softmax, of two classes a sigmoid

under several `PENALTIES`, whose logits are averaged with weights by their log loss on rows left out (`FOLDS` folds).
All these problems are solved at once along the eigenvectors of the Gram matrix (`model.class_head.logistic`).

Classes have an order of their own (`tasks.task.class_order`), which their labels do not enter: other labels give the
same networks with outputs permuted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from netformer.arrays import functions as xp
from netformer.arrays.namespace import Tensor
from netformer.exports.classes import n_outputs_of
from netformer.exports.population import Population
from netformer.generation.delivery import split_evenly, written_for
from netformer.generation.generator import NetFormer
from netformer.growing.beside import beside, step_units
from netformer.growing.mixing import grow_classes
from netformer.model.class_head import log_loss, logistic, times
from netformer.model.prompt import FREE, Prompt
from netformer.networks.stack import Networks, concatenate, constant_network, spread, with_outputs
from netformer.ridge import along_eigenvectors, prior_scale
from netformer.tables.columns import MIN_FREQUENCY
from netformer.tables.reading import CUT, MOST_MEANS, Reading, read_classes
from netformer.tasks.task import class_order

PENALTIES = xp.logspace(-1, 2, 7)
FOLDS = 5
SHARP = 1.0  # how sharply penalties are weighed, which is by likelihood
MOST_WORK = 8e8  # rows times columns times outputs of all problems solved at once to choose among penalties
LEAST_WEIGHT = 1e-3  # of a penalty that is solved on all rows
FOLD_ROWS = 2048  # that choose among penalties, at most
SOLVED_ROWS = 65_536  # that the output layer is solved on, at most
MOST_GROWN = 30  # outputs that trees are grown for
GROWN_CELLS = 131_072  # rows times outputs that trees are grown on, at most
LEAST_OF_ROW = 1e-6  # of the mean weight: what a row counts at least


@np.errstate(all="ignore")  # what is not finite is looked for where it matters
def deliver_classes(
    X: Any,
    codes: Int[np.ndarray, " rows"],
    classes: tuple[Any, ...],
    load: Callable[[], NetFormer],
    *,
    weight: Float[np.ndarray, " rows"],
    n_samples: int,
    seed: int = 0,
    prompt: Prompt = FREE,
    refine_steps: int = 0,
    target: str = "y",
    min_frequency: int = MIN_FREQUENCY,
    steps: bool = False,
) -> Population:
    """`n_samples` networks on all columns of a table whose target is a class, with a wide network.

    codes: the number of each row's class in `classes`, which hold labels; every class has at least 2 rows. weight: of
    the rows, in the output layer alone. The others: as in `delivery.deliver`. `about["log_loss"]`: of rows left out of
    the output layer, a little low, since the hidden layers have seen every row. steps: grow step units beside them in
    the wide network where they help (`growing.mixing`); `about["steps"]`: as in `delivery.deliver`.
    """
    order = class_order(codes, len(classes))
    place = np.argsort(order)[codes]  # of each row's class in that order
    shown = indicators(place, len(classes))
    reading, z = read_classes(X, shown[:MOST_MEANS], classes, target=target, min_frequency=min_frequency)
    k = n_outputs_of(len(classes))
    if not z.any():
        return _nothing(reading, codes, weight)
    model, written = load(), []
    targets = shown
    if len(shown) > n_samples:
        targets = np.concatenate([discriminant_targets(z, place, n_samples), shown])[:n_samples]
    for number, (t, count) in enumerate(zip(targets, split_evenly(n_samples, len(targets)), strict=True)):
        own = seed + number * n_samples
        networks, _, groups = written_for(
            model, reading, X, t, z, t, count, prompt=prompt, refine_steps=refine_steps, seed=own
        )
        written.append(networks)
    step = -(-len(z) // SOLVED_ROWS)
    known, place, mass = np.clip(z[::step], -CUT, CUT), place[::step], weight[::step]
    x = xp.from_numpy(known).float()
    alone, wide, left = solved(concatenate(written), x, place, len(classes), xp.from_numpy(mass))
    back, about = np.argsort(order), {"groups": groups, "rows": len(codes), "log_loss": left.loss}
    if steps and k <= MOST_GROWN:
        wide, said = _with_steps(wide, known, place, mass, left)
        about |= said
    unknown = xp.full((len(alone),), xp.nan)
    return Population(reading, relabelled(alone, back), unknown, relabelled(wide, back), about)


@runtime_checkable
class ClassSearching(Protocol):
    """What searches networks for a table with classes, such as `netformer.search.table.Search`."""

    def class_front(
        self,
        model: NetFormer,
        X: Any,
        codes: Int[np.ndarray, " rows"],
        classes: tuple[Any, ...],
        *,
        weight: Float[np.ndarray, " rows"],
        target: str,
        min_frequency: int,
        seed: int,
    ) -> Population:
        """Networks for a table; `about["search"]["chosen"]` says which of them is to answer, `about["log_loss"]` its
        log loss on rows left out of the output layer. Arguments: see `deliver_classes`."""


def deliver_classes_found(
    X: Any,
    codes: Int[np.ndarray, " rows"],
    classes: tuple[Any, ...],
    load: Callable[[], NetFormer],
    search: ClassSearching,
    *,
    weight: Float[np.ndarray, " rows"],
    seed: int,
    target: str = "y",
    min_frequency: int = MIN_FREQUENCY,
) -> Population:
    """The front of a search; the network that it chose is the wide one, with its answers as they are. Arguments: see
    `deliver_classes`. Raises InputError as the search does."""
    shown = indicators(np.argsort(class_order(codes, len(classes)))[codes], len(classes))
    reading, z = read_classes(X, shown[:MOST_MEANS], classes, target=target, min_frequency=min_frequency)
    if not z.any():
        return _nothing(reading, codes, weight)
    how: dict[str, Any] = {"weight": weight, "target": target, "min_frequency": min_frequency, "seed": seed}
    front = search.class_front(load(), X, codes, classes, **how)
    networks = front.networks.numpy()
    about = front.about | {"groups": 1, "rows": len(codes)}
    return replace(front, networks=networks, wide=networks[[front.about["search"]["chosen"]]], about=about)


def _nothing(reading: Reading, codes: Int[np.ndarray, " rows"], weight: Float[np.ndarray, " rows"]) -> Population:
    """One network that answers how frequent the classes are, where no column varies."""
    k = reading.n_outputs
    nothing, least = constant_network(len(reading.inputs), k), LEAST_OF_ROW * weight.sum()
    share = np.log(np.bincount(codes, weight).clip(least) / weight.sum())
    nothing.weight[:, nothing.layout.outputs, 0] = xp.from_numpy(share if k > 1 else share[1:] - share[0])
    return Population(reading, nothing, xp.full((1,), xp.nan), nothing, {"groups": 1, "rows": len(codes)})


def indicators(codes: Int[np.ndarray, " rows"], n_classes: int) -> Float[np.ndarray, "k rows"]:
    """1 for a row of the class and 0 for any other, standardised: of each class, of two classes of the first alone."""
    rows = (codes == np.arange(n_classes if n_classes > 2 else 1)[:, None]).astype(np.float64)
    return (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)


def discriminant_targets(
    z: Float[np.ndarray, "rows inputs"], codes: Int[np.ndarray, " rows"], most: int
) -> Float[np.ndarray, "k rows"]:
    """Standardised targets that give every class the place of its mean along a discriminant direction: at most `most`
    leading ones of the covariance between classes over that within them."""
    count = np.bincount(codes)
    means = np.stack([np.bincount(codes, column) for column in z.T], 1) / count[:, None]
    within = np.cov((z - means[codes]).T, ddof=0).reshape(z.shape[1], -1)
    size, basis = np.linalg.eigh(within + 1e-2 * np.eye(len(within)))
    whitened = (means - z.mean(0)) @ (basis / np.sqrt(size))
    _, length, axes = np.linalg.svd(whitened * np.sqrt(count)[:, None], full_matrices=False)
    places = (whitened @ axes[length > 1e-6 * length[0]].T)[:, :most]
    turned = places * np.sign((count @ places**3) + 1e-300)
    rows = turned[codes].T
    return (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)


class LogitsLeftOut(NamedTuple):
    """Rows left out of the output layer, some of those solved on. logits: of each, without it. loss: their mean."""

    some: Int[np.ndarray, " some"]
    logits: Float[np.ndarray, "some k"]
    loss: float


def _with_steps(
    wide: Networks,
    z: Float[np.ndarray, "rows inputs"],
    codes: Int[np.ndarray, " rows"],
    weight: Float[np.ndarray, " rows"],
    left: LogitsLeftOut,
) -> tuple[Networks, dict[str, Any]]:
    """The wide network with step units grown beside it, if they help, and what there is to say of it. Equal rows of one
    class count as one, so often, which is left out as a whole: trees grown on the others would know it."""
    step = -(-len(z) * left.logits.shape[1] // GROWN_CELLS)
    rows = np.union1d(np.arange(0, len(z), step), left.some)
    keyed = np.column_stack([z, codes])[rows]
    _, first, group = np.unique(keyed, axis=0, return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first))[group.ravel()]  # of each row among the different ones, in their order
    mass, some = np.bincount(place, weight[rows]), place[np.searchsorted(rows, left.some)]
    # a row that is there twice is looked at once
    some, once = np.unique(some, return_index=True)
    first = np.sort(first)
    own, z = codes[rows][first], z[rows][first]
    grown = grow_classes(z, own, mass / mass.mean(), stratified(own), some, left.logits[once])
    if grown is None:
        return wide, {}
    both = beside(wide, [grown.trees], [grown.weights])
    loss = float(mass[some] @ grown.left / mass[some].sum())
    return both, {"log_loss": loss, "steps": {"units": step_units(both), "share": grown.share}}


class _Design(NamedTuple):
    """[x, hidden units] about its mean, each part in its prior scale, along the eigenvectors of its Gram matrix under
    the weights of the rows; of one network or of several alike."""

    centre: Float[Tensor, "*n slots"]
    unit: Float[Tensor, "*n slots"]
    size: Float[Tensor, "*n k"]
    basis: Float[Tensor, "*n slots k"]
    rotated: Float[Tensor, "*n rows k"]

    def outputs(
        self, weights: Float[Tensor, "*n k outputs"], bias: Float[Tensor, "*n 1 outputs"]
    ) -> Float[Tensor, "*n all_slots outputs"]:
        """Weights along the eigenvectors as those of [1, x, hidden units]."""
        slots = self.unit.unsqueeze(-1) * (self.basis @ weights)
        return xp.cat([bias - self.centre.unsqueeze(-2) @ slots, slots], -2)


def solved(
    networks: Networks,
    x: Float[Tensor, "rows inputs"],
    codes: Int[np.ndarray, " rows"],
    n_classes: int,
    weight: Float[Tensor, " rows"],
) -> tuple[Networks, Networks, LogitsLeftOut]:
    """The networks under output layers of their own, the wide network (its mean over the stack is the logits), and what
    is said of rows left out of that. x: standardised and cut. For the networks alone every second, third, .. of more
    than `FOLD_ROWS` rows are read."""
    weight = (weight.double() / weight.double().mean()).clamp(min=LEAST_OF_ROW)
    units = networks.specs.last_units
    hidden, target = networks.last_hidden(x.unsqueeze(0)), _target(codes, n_classes)
    design = _joint_design(xp.cat([x, hidden.permute(1, 0, 2)[:, units]], 1), x.shape[1], weight)
    share, left = _penalty_shares(design, target, codes, weight)
    some = share > LEAST_WEIGHT
    each = logistic(design.rotated, design.size, target, weight.expand(int(some.sum()), -1), PENALTIES[some])
    part = (share[some] / share[some].sum()).view(-1, 1, 1)
    wide = design.outputs(*((part * values).sum(0) for values in each))
    step = -(-len(x) // FOLD_ROWS)
    x, hidden, target, weight = x[::step], hidden[:, ::step] * units.unsqueeze(1), target[::step], weight[::step]
    own = _own_designs(x, hidden, units.sum(1), weight)
    penalty = xp.exp(share @ PENALTIES.log()).expand(len(networks))
    alone = own.outputs(*logistic(own.rotated, own.size, target, weight.expand(len(networks), -1), penalty))
    return with_outputs(networks, units, alone), with_outputs(networks, units, spread(wide, units)), left


def _joint_design(made: Float[Tensor, "rows slots"], inputs: int, weight: Float[Tensor, " rows"]) -> _Design:
    made = made.double()
    centre = weight @ made / weight.sum()
    unit = prior_scale(weight @ (made - centre).square() / weight.sum(), inputs)
    root = weight.sqrt().unsqueeze(1)
    size, basis, rotated = along_eigenvectors((made - centre) * unit * root)
    return _Design(centre, unit, size, basis, rotated / root)


def _own_designs(
    x: Float[Tensor, "rows inputs"], hidden: Float[Tensor, "n rows width"], units: Int[Tensor, " n"], weight: Tensor
) -> _Design:
    made = xp.cat([x.expand(len(hidden), -1, -1), hidden], 2).double()
    centre = weight @ made / weight.sum()
    variance = weight @ (made - centre.unsqueeze(1)).square() / weight.sum()
    unit = xp.stack([prior_scale(own, x.shape[1], int(count)) for own, count in zip(variance, units, strict=True)])
    away = (made - centre.unsqueeze(1)) * unit.unsqueeze(1)
    size, basis = xp.linalg.eigh(away.mT @ (away * weight.unsqueeze(1)))
    return _Design(centre, unit, size.clamp(min=0), basis, away @ basis)


def _penalty_shares(
    design: _Design, target: Float[Tensor, "rows k"], codes: Int[np.ndarray, " rows"], weight: Float[Tensor, " rows"]
) -> tuple[Float[Tensor, " penalties"], LogitsLeftOut]:
    """The weight of each penalty, and what is said of rows left out under them. Where there are so many outputs
    that it would take long (`MOST_WORK`), fewer folds are left out, and every second penalty is looked at."""
    step = -(-len(codes) // FOLD_ROWS)
    rotated, target, weight = (part[::step] for part in (design.rotated, target, weight))
    able = int(MOST_WORK / (rotated.numel() * target.shape[1]))
    folds, stride = min(FOLDS, max(1, able // len(PENALTIES))), 1 if able >= len(PENALTIES) else 2
    tried = PENALTIES[::stride]
    own = stratified(codes[::step])
    fold = xp.from_numpy(own) == xp.arange(folds).unsqueeze(1)
    left = fold.repeat_interleave(len(tried), 0)
    weights, bias = logistic(rotated, design.size / step, target, ~left * weight, xp.cat([tried] * folds))
    logits = times(rotated, weights) + bias
    loss = xp.where(left, log_loss(logits, target), 0.0) @ weight
    total, share = loss.view(folds, -1).sum(0), xp.zeros_like(PENALTIES)
    share[::stride] = xp.softmax(-SHARP * FOLDS / folds * total, 0)
    some = np.flatnonzero(own < folds)
    each = logits.numpy().reshape(folds, len(tried), *target.shape)[own[some], :, some]
    said = np.tensordot(each, share[::stride].numpy(), (1, 0))
    return share, LogitsLeftOut(some * step, said, float(share[::stride] @ total / (weight @ fold.any(0).double())))


def stratified(codes: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    """The fold of each row, 0 to `FOLDS` - 1: every class is spread evenly over them, its rows at random."""
    rng = np.random.default_rng(0)
    at = np.lexsort((rng.permutation(len(codes)), codes))
    fold = np.empty(len(codes), np.int64)
    fold[at] = np.arange(len(codes)) % FOLDS
    return fold


def _target(codes: Int[np.ndarray, " rows"], n_classes: int) -> Float[Tensor, "rows k"]:
    every = xp.from_numpy(codes).unsqueeze(1) == xp.arange(n_classes)
    return (every[:, 1:] if n_classes == 2 else every).double()


def relabelled(networks: Networks, place: Int[np.ndarray, " classes"]) -> Networks:
    """The same with outputs in another order. place: of each class among the outputs; of two classes, one output."""
    first, weight = networks.layout.outputs.start, networks.weight
    ends = weight[:, first:]
    ends = ends[:, xp.from_numpy(place)] if ends.shape[1] > 1 else ends * (1.0 if place[1] == 1 else -1.0)
    return Networks(networks.specs, xp.cat([weight[:, :first], ends], 1))
