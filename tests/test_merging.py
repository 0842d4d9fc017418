"""Merging: one wide network is the mean of its parts, and its joint output layer is ridge on all hidden units."""

import numpy as np
import pytest
import torch
from drawn import draw
from sklearn.linear_model import Ridge

from netformer.generation.merging import UNIT_ROWS, widen
from netformer.networks.specs import Layout
from netformer.networks.stack import Networks
from netformer.ridge import PENALTIES, PRIOR_SCALE, STRIP, TRUST, gram
from netformer.tasks.task import PAD, TEST, TRAIN
from netformer.tasks.view import TaskStack, canonicalize_tasks


def test_merged_parameters_are_counted_once():
    """k copies of a network: k bodies and heads, one bias, one skip."""
    networks = draw(1, seed=5, bias_share=1.0, skip_share=1.0, sparse_share=0.0)
    units, n_params = networks[[0, 0, 0]].merged_size()
    depth, shared = int(networks.specs.depth[0]), 1 + int(networks.specs.n_inputs[0])
    assert units == 3 * int(networks.specs.widths[0, depth - 1])
    assert n_params == 3 * (int(networks.specs.n_params[0]) - shared) + shared


def drawn_tasks(t: int = 3, n_rows: int = 60) -> TaskStack:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(t, n_rows, Layout().max_features, generator=g, dtype=torch.float64)
    y = x[:, :, 0].abs() + torch.sin(2 * x[:, :, 1]) + 0.3 * torch.randn(t, n_rows, generator=g, dtype=torch.float64)
    rows = torch.where(torch.arange(n_rows) % 3 == 0, TEST, TRAIN).repeat(t, 1)
    rows[-1, 40:] = PAD
    return canonicalize_tasks(x, y, rows, Layout().max_features).float()


def samples(tasks: TaskStack, k: int) -> Networks:
    return draw(k * len(tasks), inputs=Layout().max_features, sparse_share=0.5, skip_share=0.5)


def mean_of(networks: Networks, tasks: TaskStack, k: int) -> torch.Tensor:
    return networks.predict(tasks.x.repeat_interleave(k, 0)).view(len(tasks), k, -1).mean(1)


def test_the_joint_output_layer_is_sklearns_ridge_on_all_hidden_units():
    """The mean over the penalties, weighed by their leave-one-out errors."""
    tasks, k = drawn_tasks(), 4
    networks = samples(tasks, k)
    joint = mean_of(widen(networks, tasks, k, share=1.0), tasks, k)
    for i in range(len(tasks)):
        keep, part = tasks.rows[i] != PAD, networks[slice(i * k, (i + 1) * k)]
        hidden = [
            h[:, : int(w[w > 0][-1])]
            for h, w in zip(part.hidden(tasks.x[i : i + 1])[-1], part.specs.widths, strict=True)
        ]
        h, x, y = torch.cat(hidden, 1).double().numpy(), tasks.x[i].double().numpy(), tasks.y[i].double().numpy()
        train = tasks.train[i].numpy()
        z = (h - h[train].mean(0)) / np.maximum(h[train].std(0), 1e-4) * PRIOR_SCALE / np.sqrt(h.shape[1])
        design = np.concatenate([x, z], 1)
        errors, fits = [], []
        for penalty in PENALTIES.tolist():
            fits.append(Ridge(alpha=penalty).fit(design[train], y[train]).predict(design)[keep])
            at = np.flatnonzero(train)
            left = [Ridge(alpha=penalty).fit(design[at[at != j]], y[at[at != j]]).predict(design[[j]])[0] for j in at]
            errors.append(float(np.square(left - y[at]).sum()))
        error = np.array(errors) / np.square(y[train] - y[train].mean()).sum()
        weight = np.exp(-TRUST * (error - error.min()))
        mean = weight @ np.stack(fits) / weight.sum()
        np.testing.assert_allclose(joint[i][keep].numpy(), mean, rtol=0, atol=2e-3)


def test_half_a_joint_output_layer_is_half_way():
    tasks, k = drawn_tasks(), 4
    networks = samples(tasks, k)
    none, half, all_of_it = (mean_of(widen(networks, tasks, k, share=s), tasks, k) for s in (0.0, 0.5, 1.0))
    keep = tasks.rows != PAD
    torch.testing.assert_close(half[keep], ((none + all_of_it) / 2)[keep], rtol=1e-3, atol=1e-3)
    assert float((none - all_of_it)[keep].abs().max()) > 0.1


def test_the_joint_output_layer_counts_more_where_a_unit_has_more_rows():
    tasks, k = drawn_tasks(), 4
    networks = samples(tasks, k)
    none, all_of_it, found = (mean_of(widen(networks, tasks, k, share=s), tasks, k) for s in (0.0, 1.0, None))
    last = [int(w[w > 0][-1]) for w in networks.specs.widths]
    units = torch.tensor(last).view(-1, k).sum(1, keepdim=True)
    rows, keep = tasks.train.sum(1, keepdim=True), tasks.rows != PAD
    assert len((rows / units).unique()) == len(tasks)
    expected = (UNIT_ROWS * units * none + rows * all_of_it) / (UNIT_ROWS * units + rows)
    torch.testing.assert_close(found[keep], expected[keep], rtol=1e-3, atol=1e-3)


def test_the_mean_weighs_networks_by_leave_one_out():
    """The best penalty's error of refitting ridge on [x, h] without each train row, for every network."""
    tasks, k = drawn_tasks(), 4
    networks = samples(tasks, k)
    hidden = networks.hidden(tasks.x.repeat_interleave(k, 0))[-1]
    predicted = networks.predict(tasks.x.repeat_interleave(k, 0)).view(len(tasks), k, -1).double()
    found = mean_of(widen(networks, tasks, k, share=0.0), tasks, k).double()
    for i in range(len(tasks)):
        train = tasks.train[i].numpy()
        x, y = tasks.x[i].double().numpy()[train], tasks.y[i].double().numpy()[train]
        r2s = []
        for j in range(k):
            design = np.concatenate([x, hidden[i * k + j].double().numpy()[train]], 1)
            errors = []
            for penalty in PENALTIES.tolist():
                left = [
                    Ridge(alpha=penalty).fit(np.delete(design, r, 0), np.delete(y, r)).predict(design[[r]])[0] - y[r]
                    for r in range(len(y))
                ]
                errors.append(np.square(left).sum())
            r2s.append(1 - min(errors) / np.square(y).sum())
        weight = np.exp(TRUST * (np.array(r2s) - max(r2s)))
        expected = (weight / weight.sum()) @ predicted[i].numpy()
        keep = (tasks.rows[i] != PAD).numpy()
        np.testing.assert_allclose(found[i].numpy()[keep], expected[keep], rtol=0, atol=1e-2)
        assert weight.max() / weight.min() > 1.5


def test_hidden_layers_and_test_rows_are_left_alone():
    tasks, k = drawn_tasks(), 4
    networks = samples(tasks, k)
    wide = widen(networks, tasks, k)
    assert torch.equal(wide.weight[:, :-1], networks.weight[:, :-1])
    other = TaskStack(tasks.x, torch.where(tasks.train, tasks.y, 99.0), tasks.rows, tasks.views)
    assert torch.equal(widen(networks, other, k).weight, wide.weight)
    assert bool((wide.weight[~wide.specs.mask] == 0).all())


def test_widen_refuses_another_number_of_networks():
    tasks = drawn_tasks()
    with pytest.raises(ValueError, match="networks must be 5 for each of 3 tasks, got 12"):
        widen(samples(tasks, 4), tasks, 5)


def test_half_of_a_gram_matrix_is_mirrored():
    design = torch.randn(50, 2 * STRIP + 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    products = gram(design)
    np.testing.assert_allclose(products.numpy(), design.numpy().T @ design.numpy(), rtol=0, atol=1e-12)
    assert torch.equal(products[STRIP:, :STRIP], products[:STRIP, STRIP:].T)
