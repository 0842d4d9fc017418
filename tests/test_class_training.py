"""Training on classes: the output layer that is solved, its gradient, and what the loss does not depend on."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from test_losses import LAYOUT, small_model

from netformer.errors import InputError
from netformer.model.class_head import LEAST_VARIANCE, TRAINED_PENALTIES, class_logits, log_loss
from netformer.options import NETWORKS_PER_CLASS_TASK, BatchOptions, TablePrior, TaskPrior
from netformer.ridge import PRIOR_SCALE
from netformer.tasks.classes import DrawnClasses, draw_class_tasks
from netformer.tasks.task import TEST, TRAIN
from netformer.training.class_batches import ClassBatch, draw_class_batch, in_order, one_against_the_rest
from netformer.training.losses import class_loss

FITTED, ROWS = 40, 70
NUMBERS_ALONE = TablePrior()


def drawn(n: int = 12, seed: int = 0, tables: TablePrior = NUMBERS_ALONE) -> DrawnClasses:
    g = torch.Generator().manual_seed(seed)
    return draw_class_tasks(n, ROWS, fitted=FITTED, max_features=4, tables=tables, generator=g)


def class_batch(made: DrawnClasses, d_latent: int, seed: int = 0) -> ClassBatch:
    g = torch.Generator().manual_seed(seed)
    tasks, target = one_against_the_rest(made, 4, NUMBERS_ALONE, g)
    eps = torch.randn(len(tasks), d_latent, generator=g)
    return ClassBatch(tasks, target, made.rows == TRAIN, torch.ones(len(tasks), dtype=torch.bool), eps)


def relabelled(made: DrawnClasses, seed: int = 1) -> DrawnClasses:
    """The same tasks, the classes of each numbered in another way."""
    codes, p = made.codes.clone(), made.probabilities.clone()
    rng, moved = np.random.default_rng(seed), 0
    for i, k in enumerate(made.n_classes.tolist()):
        place = torch.from_numpy(rng.permutation(k))
        codes[i] = place[made.codes[i]]
        p[i][:, place] = made.probabilities[i, :, :k]
        moved += int((place != torch.arange(k)).any())
    assert moved > len(codes) / 3
    return replace(made, codes=codes, probabilities=p)


def test_labels_permuted_make_the_same_batch_and_the_same_loss() -> None:
    model, made = small_model().requires_grad_(False), drawn()
    here, there = (class_batch(tasks, model.d_latent) for tasks in (made, relabelled(made)))
    assert torch.equal(here.target, there.target)
    assert torch.equal(here.tasks.x, there.tasks.x)
    first, second = (class_loss(model, batch, nullcontext) for batch in (here, there))
    assert torch.equal(first, second)
    assert 0 < float(first) < 5


def test_a_network_is_written_for_a_class_against_the_rest() -> None:
    made = in_order(drawn())
    tasks, target = one_against_the_rest(made, 4, NUMBERS_ALONE, torch.Generator().manual_seed(0))
    for i, k in enumerate(made.n_classes.tolist()):
        counts = torch.bincount(made.codes[i, :FITTED], minlength=k)
        assert bool((counts.diff() <= 0).all())
        seen = []
        for net in range(i * NETWORKS_PER_CLASS_TASK, (i + 1) * NETWORKS_PER_CLASS_TASK):
            shown = (tasks.y[net] * tasks.views.y_scale[net] + tasks.views.y_mean[net]).double()
            of = [c for c in range(k) if np.allclose(shown[:FITTED], made.codes[i, :FITTED] == c, atol=1e-5)]
            seen += of
            assert len(of) == 1
            np.testing.assert_allclose(shown[FITTED:], made.probabilities[i, FITTED:, of[0]], atol=1e-5)
        assert seen == [0] * NETWORKS_PER_CLASS_TASK if k == 2 else len(set(seen)) == NETWORKS_PER_CLASS_TASK
    np.testing.assert_allclose(target.sum(2), 1.0, atol=1e-5)


def random_design(classes: int = 3) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(3)
    hidden, x = torch.randn(2, ROWS, 5, generator=g), torch.randn(2, ROWS, 3, generator=g)
    own = torch.tensor([[True] * 5, [True, True, True, False, False]])
    codes = torch.randint(classes, (2, ROWS), generator=g)
    fitted = (torch.arange(ROWS) < FITTED).expand(2, -1)
    return hidden, own, x, torch.nn.functional.one_hot(codes, classes).float(), fitted


def test_the_output_layer_is_the_penalised_multinomial_one_on_fitted_rows() -> None:
    """Against a general optimiser; units that do not exist, a class no task has, and query rows change nothing."""
    hidden, own, x, target, fitted = random_design()
    padded = torch.nn.functional.pad(target, (0, 1))
    found = class_logits(hidden, own, x, padded, fitted, steps=300)[:, :, :3]
    noise = torch.where(fitted.unsqueeze(2), padded, torch.rand(padded.shape))
    torch.testing.assert_close(class_logits(hidden, own, x, noise, fitted, steps=300)[:, :, :3], found)
    for i in range(2):
        h = hidden[i, :, own[i]].double().numpy()
        variance = h[:FITTED].var(0) + LEAST_VARIANCE
        z = np.concatenate([x[i].numpy(), h * PRIOR_SCALE / np.sqrt(h.shape[1]) / np.sqrt(variance)], 1)
        z, y, k = z - z[:FITTED].mean(0), target[i, :FITTED].double().numpy(), z.shape[1]
        expected = 0.0
        for penalty in TRAINED_PENALTIES:

            def loss(v, penalty=penalty, z=z, y=y, k=k):
                w = v.reshape(k + 1, 3)
                logits = z[:FITTED] @ w[:k] + w[k]
                return (np.logaddexp.reduce(logits, 1) - (y * logits).sum(1)).sum() + penalty / 2 * (w[:k] ** 2).sum()

            w = minimize(loss, np.zeros(3 * (k + 1)), method="BFGS", options={"gtol": 1e-6}).x.reshape(k + 1, 3)
            logits = z @ w[:k] + w[k]
            expected = expected + (logits - logits.mean(1, keepdims=True)) / len(TRAINED_PENALTIES)
        centred = found[i] - found[i].mean(1, keepdim=True)
        np.testing.assert_allclose(centred.numpy(), expected, atol=5e-3)


def test_the_gradient_is_that_of_finite_differences() -> None:
    hidden, own, x, target, fitted = random_design()
    g = torch.Generator().manual_seed(4)
    directions = torch.randn(4, *hidden.shape, generator=g)

    def loss(h: torch.Tensor) -> torch.Tensor:
        logits = class_logits(h, own, x, target, fitted, steps=200)
        return (log_loss(logits, target) * ~fitted).sum()

    moving = hidden.clone().requires_grad_()
    loss(moving).backward()
    assert moving.grad is not None
    for direction in directions:
        found = float((moving.grad * direction).sum())
        step = 1e-2
        expected = float(loss(hidden + step * direction) - loss(hidden - step * direction)) / (2 * step)
        assert found == pytest.approx(expected, rel=0.02, abs=0.02)
    assert not moving.grad[1][:, 3:].any()
    few = hidden.clone().requires_grad_()
    (log_loss(class_logits(few, own, x, target, fitted), target) * ~fitted).sum().backward()
    assert torch.nn.functional.cosine_similarity(few.grad.flatten(), moving.grad.flatten(), 0) > 0.99


def test_steps_lower_the_loss_of_a_batch() -> None:
    model = small_model()
    batch = class_batch(drawn(16, seed=2), model.d_latent)
    optimizer, found = torch.optim.Adam(model.parameters(), 3e-3), []
    for _ in range(40):
        loss = class_loss(model, batch, nullcontext)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.9 * found[0]


def test_units_that_say_nothing_have_a_finite_gradient() -> None:
    hidden, own, x, target, fitted = random_design()
    hidden[:, :, 0] = 0.3
    hidden.requires_grad_()
    log_loss(class_logits(hidden, own, x, target, fitted), target).sum().backward()
    assert bool(hidden.grad.isfinite().all())


OPTIONS = {
    "zoo_tasks": 2, "networks_per_task": 2, "stream_tasks": 20, "min_rows": 20, "max_rows": 40, "budget_share": 0.0,
    "mode_share": 0.5, "condition_dropout": 0.3, "metafeature_noise": 0.5,
}  # fmt: skip


def test_a_share_of_networks_is_for_classes_and_a_part_of_a_batch_is_whole_tasks() -> None:
    options = BatchOptions(**OPTIONS, class_share=0.5, tables=TablePrior(0.3, 0.2, 0.0, 0.0))
    assert (options.class_tasks, options.number_tasks) == (3, 11)
    made = draw_class_batch(
        5, options, seed=0, max_features=LAYOUT.max_features, d_latent=6, order_noise=0.5, prior=TaskPrior(),
        keep_share=0.5, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert len(made.tasks) == len(made.eps) == len(made.keep) == 9
    assert made.tasks.kinds is not None
    assert set(made.tasks.rows.unique().tolist()) == {TRAIN, TEST}
    parts = [made.part(rank, 2) for rank in (0, 1)]
    assert [len(part) for part in parts] == [2, 1]
    assert torch.equal(parts[1].tasks.x, made.tasks.x[3:6])
    assert torch.equal(parts[0].eps, torch.cat([made.eps[:3], made.eps[6:]]))
    with pytest.raises(InputError, match="class_share must be 0, or leave tasks of both kinds among 20"):
        BatchOptions(**OPTIONS, class_share=0.01)
    with pytest.raises(InputError, match="class_share must be 0, or leave"):
        BatchOptions(**OPTIONS | {"stream_tasks": 3}, class_share=0.9)
