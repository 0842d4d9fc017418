"""The model without torch: what it writes is what the model writes."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from netformer.arrays import functions
from netformer.arrays.namespace import alike
from netformer.errors import InputError
from netformer.generation.generator import NetFormer
from netformer.model.arrays import ArrayModel, shapes_of
from netformer.model.grammar import Structure
from netformer.model.prompt import Prompt
from netformer.model.store import ENCODER, WEIGHTS, load_arrays, save_model
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Layout, Specs, draw_specs
from netformer.options import ModelOptions
from netformer.tables.inputs import KINDS
from netformer.tables.reading import CUT, read
from netformer.tasks.metafeatures import NAMES, MetaFeatureTransform
from netformer.tasks.task import PAD, TEST, TRAIN
from netformer.tasks.view import TaskStack, Views, canonicalize_tasks

N, F, ROWS = 5, 6, 40
LAYOUT = Layout(F, 2, 7)
SIZES = {
    "d_model": 12,
    "d_condition": 9,
    "n_heads": 3,
    "n_encoder_layers": 1,
    "d_writer": 11,
    "d_global": 4,
    "d_vertex": 3,
    "d_row": 10,
}
KINDS_OF = {
    "plain": {"rounds": 0},
    "rounds and kinds": {"rounds": 2, "kinds": True, "n_structure_layers": 2},
    "standard prior": {"prior": "normal", "condition": "task"},
    "meta-features alone": {"condition": "metafeatures", "rounds": 1},
    "no condition": {"condition": "none"},
}


def random_model(**options):
    """A model no weight of which is 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TransformerVAE(LAYOUT, len(NAMES), ModelOptions(**SIZES, **options)).eval()
        for part in model.parameters():
            part.data += 0.2 * torch.randn(part.shape)
        model.scale.copy_(0.5 + torch.rand(model.scale.shape))
    return model


def in_arrays(x):
    """The same stack, specs or tensor as arrays."""
    if isinstance(x, TaskStack | Views | Specs | Structure):
        return type(x)(**{name: in_arrays(part) for name, part in vars(x).items()})
    return functions.from_numpy(x.detach().numpy()) if isinstance(x, torch.Tensor) else x


def random_tasks():
    """Tasks of several rows and columns, a part of which is for training."""
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.choice([TRAIN, TEST], (N, ROWS), p=(0.7, 0.3)))
    rows[0, 25:] = PAD
    x, y = (torch.from_numpy(rng.normal(size=shape)) for shape in ((N, ROWS, 8), (N, ROWS)))
    x[1, :, 3:] = 1.0
    kinds = torch.from_numpy(rng.random((N, 8, 1 + len(KINDS))))
    return canonicalize_tasks(x, y, rows, F, kinds).float()


@pytest.mark.parametrize("name", KINDS_OF)
def test_every_part_is_that_of_the_model(name):
    model = random_model(**KINDS_OF[name])
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    ours = ArrayModel(weights, **model.arguments)
    tasks, known = random_tasks(), torch.randn(N, len(NAMES), generator=torch.Generator().manual_seed(1))
    eps = torch.randn(N, model.d_latent, generator=torch.Generator().manual_seed(2))
    n_inputs = torch.tensor([1, 3, 6, 2, 5])
    specs = draw_specs(n_inputs, layout=LAYOUT, min_width=1, generator=torch.Generator().manual_seed(3))

    def close(found, expected):
        np.testing.assert_allclose(np.asarray(found), expected.numpy(), rtol=1e-5, atol=1e-5)

    with torch.no_grad():
        for given in ((tasks, known), (tasks, None), (None, known), (None, None)):
            c = model.embed(N, *given)
            close(ours.embed(N, *map(in_arrays, given)), c)
        c = model.embed(N, tasks, known)
        z = model.draw(model.prior_of(c), eps)
        close(ours.draw(ours.prior_of(in_arrays(c)), in_arrays(eps)), z)
        found, expected = ours.structure_logits(in_arrays(z), in_arrays(c)), model.structure_logits(z, c)
        for part in ("type", "number", "parent"):
            close(getattr(found, part), getattr(expected, part))
        close(ours.write(in_arrays(z), in_arrays(c), in_arrays(specs)).weight, model.write(z, c, specs).weight)
        close(ours.penalties(in_arrays(c)), model.penalties(c))
    assert shapes_of(**model.arguments) == {
        key: value.shape for key, value in weights.items() if not key.startswith(ENCODER)
    }


def test_views_and_rows_are_those_of_tensors():
    tasks = random_tasks()
    found, expected = in_arrays(tasks).train_only().trim(), tasks.train_only().trim()
    for part in ("x", "y", "rows"):
        assert (getattr(found, part).numpy() == getattr(expected, part).numpy()).all()
    assert (found.n_rows.numpy() == expected.n_rows.numpy()).all()


def table(columns, rows=150):
    """A standardised table whose target needs hidden units."""
    rng = np.random.default_rng(columns)
    x = rng.normal(size=(rows, columns))
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.3 * rng.normal(size=rows)
    return (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()


@pytest.mark.parametrize("prompt", [{}, {"max_params": 90}, {"activations": ("tanh", "gelu"), "max_hidden_layers": 1}])
@pytest.mark.parametrize("columns", [3, 20])
def test_the_networks_written_are_those_of_the_model(prompt, columns):
    """Structures are equal and hidden weights nearly so; the output layer, which is often badly conditioned, by what
    it answers."""
    z, t = table(columns)
    rows = np.clip(z, -CUT, CUT).astype(np.float32)[None]
    (a, r2), (b, ours) = (
        one.write(z, t, 8, prompt=Prompt(**prompt), random_state=3)
        for one in (NetFormer.load(), NetFormer.load_arrays())
    )
    for part in ("n_inputs", "widths", "activations", "mask"):
        assert (np.asarray(getattr(a.specs, part)) == np.asarray(getattr(b.specs, part))).all()
    hidden = a.layout.outputs.start
    np.testing.assert_allclose(b.weight.numpy()[:, :hidden], a.weight.numpy()[:, :hidden], atol=1e-5)
    np.testing.assert_allclose(ours, r2, atol=2e-4)
    answers = b.predict(functions.from_numpy(rows)).numpy(), a.predict(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(*answers, atol=5e-3)


def test_metafeatures_are_given_in_the_same_way():
    z, t = table(4)
    reading, _, _ = read(z, t)
    known = [
        one.metafeatures_of(reading, z, t, metafeatures=True) for one in (NetFormer.load(), NetFormer.load_arrays())
    ]
    assert (np.asarray(known[0]) == np.asarray(known[1])).all()


def test_a_damaged_model_is_refused_as_with_torch(tmp_path):
    model = random_model()
    save_model(model, MetaFeatureTransform((0.0,) * len(NAMES), (1.0,) * len(NAMES)), tmp_path)
    loaded, _ = load_arrays(tmp_path)
    assert {name: value.shape for name, value in loaded.state_dict().items()} == shapes_of(**model.arguments)
    model.scale[0, 0] = torch.nan
    save_model(model, MetaFeatureTransform((0.0,) * len(NAMES), (1.0,) * len(NAMES)), tmp_path)
    messages = []
    for damage in (None, b"no tensors"):
        if damage is not None:
            (tmp_path / WEIGHTS).write_bytes(damage)
        for load in (NetFormer.load, NetFormer.load_arrays):
            with pytest.raises(InputError) as caught:
                load(tmp_path)
            messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "weights must be finite" in messages[0]
    assert messages[2] == messages[3]
    assert asdict(loaded.options) == asdict(model.options)
    assert alike(np.ones(1), functions.ones(1)).dtype == np.float64
