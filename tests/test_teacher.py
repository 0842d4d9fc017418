"""Teacher: what it reads, and laws its answers keep whatever its weights."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from teachers import FEATURES, OPTIONS, answerer, tasks, writer

from netformer.errors import InputError
from netformer.model.orientation import Orientations
from netformer.tasks.stream import stream_batch
from netformer.tasks.task import TRAIN
from netformer.tasks.view import canonicalize_tasks
from netformer.teacher.answers import CONTEXT_ROWS, Answerer, asked
from netformer.teacher.inputs import fits_of, n_row_inputs, oriented, row_inputs, without_networks
from netformer.teacher.loop import mean_loss
from netformer.teacher.transformer import Teacher, TeacherOptions


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_ridge_predicts_a_train_row_from_the_others():
    some = tasks(2, 20)
    fits = fits_of(some, None, 0, generator())
    assert torch.equal(fits.linear, fits.base)
    without = some.train.clone()
    without[:, 3] = False
    others = fits_of(replace(some, rows=torch.where(without, TRAIN, 2)), None, 0, generator())
    # The weights of the penalties are those of all rows, so the two agree up to what one row does to these.
    torch.testing.assert_close(fits.linear[:, 3], others.linear[:, 3], atol=0.05, rtol=0)
    torch.testing.assert_close(fits.linear[:, 20:], others.linear[:, 20:], atol=0.5, rtol=0)
    assert not torch.allclose(fits.linear[:, 20:], others.linear[:, 20:], atol=0.01)


def test_the_fit_that_is_corrected_is_the_mean_of_written_networks():
    some = tasks()
    both = fits_of(some, writer(), 2, generator())
    assert not torch.allclose(both.base, both.linear)
    keep = some.train
    off = ((some.y - both.base).square() * keep).sum(1, keepdim=True) / keep.sum(1, keepdim=True)
    torch.testing.assert_close(both.deviation, off.sqrt())
    first = fits_of(some, writer(), 1, generator())
    assert not torch.allclose(both.base, first.base)


def silent() -> Teacher:
    """A teacher that adds nothing to the fit."""
    teacher = Teacher.seeded(OPTIONS, 3).eval()
    torch.nn.init.zeros_(teacher.head.weight)
    return teacher


def test_a_teacher_that_says_nothing_answers_with_the_fit():
    some = tasks()
    fits = fits_of(some, writer(), 2, generator())
    torch.testing.assert_close(silent()(some, fits, 30), fits.base[:, 30:])


def test_networks_are_withheld_from_some_tasks():
    some = tasks()
    fits = fits_of(some, writer(), 2, generator())
    some_of = without_networks(some, fits, torch.tensor([True, False, True]))
    plain = fits_of(some, None, 0, generator())
    for name in ("base", "deviation"):
        found, whole, ridge = (getattr(one, name) for one in (some_of, fits, plain))
        assert torch.equal(found[1], whole[1])
        assert torch.equal(found[[0, 2]], ridge[[0, 2]])
        assert not torch.equal(whole[0], ridge[0])


def test_inputs_have_the_promised_widths_and_say_nothing_of_the_target_of_a_row_asked_about():
    some = tasks()
    fits = fits_of(some, writer(), 2, generator())
    found = row_inputs(some, fits)
    assert tuple(part.shape[-1] for part in found) == n_row_inputs(FEATURES)
    other = replace(some, y=torch.where(some.train, some.y, 9.0))
    again = row_inputs(other, fits_of(other, writer(), 2, generator()))
    for part, same in zip(found, again, strict=True):
        assert torch.equal(part, same)


def test_the_order_of_train_rows_does_not_matter():
    some, who = tasks(), answerer()
    order = torch.randperm(30, generator=generator())
    moved = some.at_rows(torch.cat([order, torch.arange(30, some.x.shape[1])]))
    torch.testing.assert_close(who.answers(some), who.answers(moved), atol=2e-4, rtol=1e-3)


def test_no_row_that_is_asked_about_changes_another():
    some, who = tasks(), answerer()
    every = who.answers(some)
    few = who.answers(some.at_rows(torch.cat([torch.arange(30), torch.tensor([33, 41])])))
    torch.testing.assert_close(few, every[:, [3, 11]], atol=1e-5, rtol=1e-4)


def test_the_order_of_columns_and_their_units_do_not_matter():
    g = generator()
    x, rows = torch.randn(1, 40, 3, generator=g).double(), torch.full((1, 40), 2)
    y = x[..., 0] * x[..., 1] + 0.5 * x[..., 2] + x[..., 0]
    rows[:, :25] = TRAIN
    who = answerer()
    answers = []
    for order, scale in (([0, 1, 2], 1.0), ([2, 0, 1], -30.0)):
        answers.append(who.answers(canonicalize_tasks(scale * x[:, :, order], y, rows, FEATURES).float(), orders=3))
    torch.testing.assert_close(*answers, atol=1e-4, rtol=1e-3)


def test_the_mean_over_all_orientations_is_the_same_in_each_of_them():
    some, who = tasks(1), answerer()
    fits = fits_of(some, who.writer, 2, generator())
    every = [
        Orientations(torch.tensor([order]), torch.tensor([sign]))
        for order in itertools.permutations(range(FEATURES))
        for sign in (-1.0, 1.0)
    ]

    def mean(of):
        with torch.no_grad():
            return torch.stack([who.teacher(*oriented(*of, how), 30) * how.sign for how in every]).mean(0)

    turned = mean(oriented(some, fits, every[5])) * every[5].sign
    torch.testing.assert_close(mean((some, fits)), turned, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(who.answers(some), mean((some, fits)), atol=1e-3)


def test_answers_for_other_rows_and_out_of_fold():
    some, who = tasks(), answerer()
    torch.testing.assert_close(who.answers(asked(some, some.x[:, 30:])), who.answers(some), atol=1e-5, rtol=1e-4)
    known = some.at_rows(slice(30))
    out = who.out_of_fold(known, 5)
    assert out.shape == (3, 30)
    assert bool(out.isfinite().all())
    moved = replace(known, y=known.y.clone())
    moved.y[:, 4] += 1.0
    new = Answerer(silent(), None)  # the fit itself, in which the label of a row says next to nothing of it
    change = (new.out_of_fold(moved, 5) - new.out_of_fold(known, 5)).abs()
    assert float(change[:, 4].max()) < 0.1 < float(change.max())


def test_of_many_train_rows_some_are_read():
    long = stream_batch(0, 1, seed=1, max_features=FEATURES, min_rows=CONTEXT_ROWS + 50, max_rows=CONTEXT_ROWS + 50)
    answer = answerer(0).answers(long.float().at_rows(slice(CONTEXT_ROWS + 60)))
    assert answer.shape == (1, 10)
    assert bool(answer.isfinite().all())


def test_attention_is_that_of_the_formula():
    """The block in numpy, written down again."""
    block = answerer().teacher.blocks[0]
    g = generator()
    h, first = torch.randn(1, 7, 16, generator=g), torch.randn(1, 7, 16, generator=g)
    p = {name: value.detach().double().numpy() for name, value in block.named_parameters()}

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]

    def linear(x, name):
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    x = h[0].double().numpy()
    train = x[:5]
    q, (k, v) = linear(norm(x, "norm"), "query"), np.split(linear(norm(train, "norm"), "both"), 2, 1)
    heads = []
    for part in (slice(0, 8), slice(8, 16)):
        score = np.exp(q[:, part] @ k[:, part].T / np.sqrt(8))
        heads.append(score / score.sum(1, keepdims=True) @ v[:, part])
    x = p["stays"][0] * x + p["stays"][1] * first[0].double().numpy() + linear(np.concatenate(heads, 1), "out")
    a = linear(norm(x, "norm_hidden"), "widen")
    a = 0.5 * a * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)))
    expected = x + linear(a, "narrow")
    np.testing.assert_allclose(block(h, h[:, :5], first)[0].detach().numpy(), expected, atol=1e-5)


def test_every_weight_is_learned():
    some, who = tasks(), answerer()
    fits = fits_of(some, who.writer, 2, generator())
    mean_loss(who.teacher(some, fits, 30), some.y[:, 30:]).backward()
    still = [name for name, p in who.teacher.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []


@pytest.mark.parametrize("bad", [{"d_model": 10, "n_heads": 3}, {"n_blocks": 0}, {"networks": -1}])
def test_options_out_of_range(bad):
    with pytest.raises(InputError, match="must be"):
        TeacherOptions(**bad)
