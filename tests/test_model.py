"""Model: grammar, latent, closed-form output layer, exact resume."""

from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from torch.distributions import Independent, Normal, kl_divergence

from netformer.errors import InputError
from netformer.model.head import solve_head
from netformer.model.latent import Gaussian
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Layout, draw_specs
from netformer.networks.stack import Networks
from netformer.networks.symmetry import canonicalize
from netformer.options import BatchOptions, LossWeights, ModelOptions, TaskPrior, TrainOptions
from netformer.tasks.scores import scores
from netformer.tasks.stream import stream_batch, synthetic_tasks
from netformer.tasks.task import TEST
from netformer.tasks.view import TaskStack, stack_tasks
from netformer.training.batches import Corpus, draw_batch
from netformer.training.loop import train
from netformer.zoo.build import build_zoo, initialize

LAYOUT = Layout()
TINY = {
    "max_features": 10,
    "max_hidden_layers": 3,
    "max_width": 8,
    "n_metafeatures": 4,
    "d_model": 16,
    "n_heads": 2,
    "d_vertex": 2,
    "d_row": 16,
}


def test_kl_is_that_of_torch_distributions():
    a, b = (Gaussian(torch.randn(5, 7), torch.randn(5, 7)) for _ in range(2))
    normals = [Independent(Normal(p.mu, torch.exp(0.5 * p.logvar)), 1) for p in (a, b)]
    torch.testing.assert_close(a.kl(b).sum(1), kl_divergence(*normals), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("file", ["params.yaml", "params/pretrained.yaml"])
def test_options_that_have_defaults_have_those_of_params_yaml(file):
    """Both files name every option; where the library has defaults, they are those of params.yaml."""
    params = YAML(typ="safe").load((Path(__file__).parents[1] / file).read_text())
    sections = {
        ModelOptions: params["model"],
        LossWeights: params["train"]["loss"],
        TaskPrior: params["download"]["prior"],
    }
    for kind, section in sections.items():
        assert set(section) == set(asdict(kind()))
        if file == "params.yaml":
            assert section == asdict(kind())
    assert set(params["train"]) >= {field.name for field in fields(TrainOptions)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda: ModelOptions(d_model=10, n_heads=4), "d_model must be a multiple of n_heads, got 10 and 4"),
        (lambda: ModelOptions(rounds=-1), "rounds must be at least 0, got -1"),
        (lambda: LossWeights(beta=-1.0), r"beta must be at least 0, got -1\.0"),
        (lambda: TaskPrior(warp_share=1.5), r"warp_share must be between 0 and 1, got 1\.5"),
        (lambda: TaskPrior(noise_low=0.9), r"noise_low must be above 0 and at most noise_high, got 0\.9 and 0\.7"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        options()


def test_condition_none_reads_nothing():
    tasks = stream_batch(0, 3, seed=0, max_features=10, min_rows=20, max_rows=30)
    blind = TransformerVAE.from_arguments(condition="none", **TINY)
    assert torch.equal(blind.embed(3, tasks, torch.randn(3, 4)), blind.embed(3))
    seeing = TransformerVAE.from_arguments(condition="both", **TINY)
    assert not torch.equal(seeing.embed(3, tasks, torch.randn(3, 4)), seeing.embed(3))


def test_written_weights_exist_exactly_where_edges_do():
    model, g = TransformerVAE.from_arguments(**TINY), torch.Generator().manual_seed(3)
    specs = draw_specs(torch.arange(40) % 10 + 1, layout=LAYOUT, generator=g, sparse_share=0.5)
    z = torch.randn(40, model.d_latent, generator=g)
    written = model.write(z, model.embed(40), specs)
    assert torch.equal(written.weight != 0, specs.mask)
    tasks = stream_batch(1, 40, seed=0, max_features=10, min_rows=20, max_rows=30)
    solved = solve_head(written, tasks, model.penalties(model.embed(40)))
    assert not bool(solved.weight[~specs.mask].any())
    assert not torch.equal(solved.weight, written.weight)


def test_the_condition_reads_train_rows_only_and_in_any_order():
    model = TransformerVAE.from_arguments(**TINY)
    tasks = stream_batch(2, 4, seed=0, max_features=10, min_rows=20, max_rows=30)
    c = model.embed(4, tasks)
    unseen = ~tasks.train
    garbage = torch.where(unseen.unsqueeze(2), 3.0, tasks.x), torch.where(unseen, -2.0, tasks.y)
    order = torch.randperm(tasks.x.shape[1], generator=torch.Generator().manual_seed(0))
    for x, y, rows in ((*garbage, tasks.rows), (tasks.x[:, order], tasks.y[:, order], tasks.rows[:, order])):
        other = model.embed(4, TaskStack(x, y, rows, tasks.views))
        torch.testing.assert_close(other, c, rtol=1e-5, atol=1e-6)
    shifted = TaskStack(tasks.x, tasks.y.flip(1), tasks.rows, tasks.views)
    assert not torch.allclose(model.embed(4, shifted), c, rtol=1e-3, atol=1e-4)


def test_dropped_channels_are_the_null_embedding():
    model = TransformerVAE.from_arguments(**TINY)
    with torch.no_grad():
        model.condition_encoder.null_task.normal_()
        model.condition_encoder.null_metafeatures.normal_()
    tasks = stream_batch(0, 2, seed=0, max_features=10, min_rows=20, max_rows=30)
    meta, keep = torch.randn(2, 4), torch.tensor([True, False])
    c = model.embed(2, tasks, meta, keep, ~keep)
    full, null = model.embed(2, tasks, meta), model.embed(2)
    d = model.arguments["d_condition"]
    assert torch.equal(c[0], torch.cat([full[0, :d], null[0, d:]]))
    assert torch.equal(c[1], torch.cat([null[1, :d], full[1, d:]]))


@pytest.fixture(scope="module")
def corpus():
    made = synthetic_tasks(5, seed=2, stream="train", split="train", max_features=10, min_rows=40, max_rows=50)
    tasks = stack_tasks(made, 10)
    zoo, _ = build_zoo(
        tasks, layout=LAYOUT, spec={}, networks_per_task=3, duplicate_share=0.0, min_valid_r2=-1.0, max_gap=9.0,
        seed=0, optimizer={"steps": 10, "lr": 0.03, "batch_size": 16, "weight_decay": 0.0},
    )  # fmt: skip
    networks: Networks = canonicalize(zoo.networks)
    g = torch.Generator().manual_seed(0)
    ones = torch.ones(len(networks), LAYOUT.n_patches)
    return Corpus(networks, zoo.task_index, ones, tasks, torch.randn(5, 4, generator=g))


def run(corpus, steps, checkpoint=None, seed=0, arguments=None, **options):
    own = {name: value for name, value in TINY.items() if name in ModelOptions.__dataclass_fields__}
    batch = {"stream_tasks": 4, "min_rows": 20, "max_rows": 30, "zoo_tasks": 3, "networks_per_task": 2}
    batch |= {"budget_share": 0.5, "mode_share": 0.5, "condition_dropout": 0.2, "metafeature_noise": 0.5}
    made = TrainOptions(
        steps=steps, lr=1e-3, weight_decay=0.01, loss=LossWeights(), seed=seed, precision="32-true", **batch
    )
    given = ModelOptions(**own | (arguments or {}))
    return train(corpus, given, made, checkpoint=checkpoint, checkpoint_every=2, **options)


def test_a_resumed_run_is_the_straight_run(corpus, tmp_path):
    path = tmp_path / "state.safetensors"
    straight = run(corpus, 3, path)
    assert path.exists()
    resumed = run(corpus, 3, path)
    again, other = run(corpus, 3), run(corpus, 3, seed=1)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
        assert torch.equal(value, again.state_dict()[name]), name
    assert not torch.equal(straight.writer.template, other.writer.template)


def test_a_model_without_rounds_goes_on_with_them_as_it_was(corpus):
    """Rounds of the task encoder begin at zero: before a step the condition is the same, after some it is not."""
    plain = run(corpus, 3)
    grown = run(corpus, 0, arguments={"rounds": 2}, initial=plain)
    trained = run(corpus, 3, arguments={"rounds": 2}, initial=plain)
    c, same, other = (model.embed(5, corpus.tasks) for model in (plain, grown, trained))
    assert torch.equal(c, same)
    assert not torch.allclose(c, other)
    assert all(bool(layer.weight.any()) for layer in trained.condition_encoder.task_encoder.moves)
    with pytest.raises(RuntimeError):
        run(corpus, 1, initial=grown)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_tasks_answered_with_the_mode_have_no_noise_and_are_canonical(corpus, share):
    options = BatchOptions(
        zoo_tasks=3, networks_per_task=2, stream_tasks=400, min_rows=20, max_rows=30, budget_share=0.0,
        mode_share=share, condition_dropout=0.0, metafeature_noise=0.0,
    )  # fmt: skip
    batch = draw_batch(0, corpus, options, seed=0, d_latent=9, order_noise=1.0, prior=TaskPrior())
    canonical = stream_batch(0, 400, seed=0, max_features=10, min_rows=20, max_rows=30)
    mode = ~batch.fresh_eps.any(1)
    assert float(mode.double().mean()) == pytest.approx(share, abs=0.08)
    assert torch.equal(batch.fresh.x[mode], canonical.x[mode])
    assert torch.equal(batch.fresh.y[mode], canonical.y[mode])
    if share < 1:
        turned = (batch.fresh.x != canonical.x).flatten(1).any(1)
        assert float(turned[~mode].double().mean()) > 0.5


def test_the_number_of_threads_changes_no_score(corpus):
    """Large enough for torch to share the work among its threads, one of them with an odd share."""
    before, index = torch.get_num_threads(), torch.arange(5).repeat(400)
    g = torch.Generator().manual_seed(0)
    networks = initialize(draw_specs(corpus.tasks.n_features[index], layout=LAYOUT, generator=g), index)
    found = []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            found.append(scores(networks, corpus.tasks, index))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("log_every", [1, 2, 3])
def test_logged_losses_are_means_of_the_steps_they_cover_after_a_resume_too(corpus, tmp_path, log_every):
    path, every, straight, resumed = tmp_path / "state.safetensors", {}, {}, {}
    run(corpus, 5, path, log=every.__setitem__, log_every=1)
    run(corpus, 5, path, log=resumed.__setitem__, log_every=log_every)
    run(corpus, 5, log=straight.__setitem__, log_every=log_every)
    assert list(straight) == [step for step in (1, 2, 3, 4, 5) if step % log_every == 0 or step == 5]
    assert resumed == straight, "steps before the checkpoint are told again"
    before = 0
    for step, means in straight.items():
        for name, value in means.items():
            covered = [every[step][name] for step in range(before + 1, step + 1)]
            assert value == pytest.approx(np.mean(covered)), name
        before = step


def test_tasks_are_read_one_after_the_other_as_they_are_together():
    """Without gradients each task is read alone; padded tasks among them."""
    tasks = stream_batch(0, 3, seed=0, max_features=10, min_rows=20, max_rows=30)
    rows = tasks.rows.clone()
    rows[1, 15:] = TEST
    tasks = replace(tasks, rows=rows)
    model = TransformerVAE.from_arguments(condition="task", **TINY)
    together = model.embed(3, tasks).detach()
    with torch.no_grad():
        torch.testing.assert_close(model.embed(3, tasks), together, rtol=1e-4, atol=1e-5)
