"""Taught networks: what a teacher's answers do to the output layer of a delivered network."""

import pytest
import torch
from teachers import FEATURES, answerer, tasks, writer

from netformer.errors import InputError
from netformer.generation.merging import widen
from netformer.generation.sampling import sample_networks
from netformer.networks.stack import Networks
from netformer.tasks.view import TaskStack
from netformer.teacher.taught import CROSSED, Lessons, lessons_of, made_up, taught


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def task() -> TaskStack:
    """30 noisy train rows."""
    return tasks(1, 30).at_rows(slice(30))


@pytest.fixture(scope="module")
def wide(task) -> Networks:
    networks, _ = sample_networks(writer(), task, None, n_samples=4, generator=generator())
    return widen(networks, task, 4)


def said(task: TaskStack, function, rows: int = 200) -> Lessons:
    """Lessons of a teacher that answers with a function of the row."""
    x = made_up(task.x[0], rows, generator())
    return Lessons(x, function(x), function(task.x[0]))


def test_made_up_rows_are_crossed_or_moved(task):
    x = task.x[0]
    made = made_up(x, 100, generator())
    crossed, moved = made[: round(100 * CROSSED)], made[round(100 * CROSSED) :]
    for column in range(FEATURES):
        assert bool(torch.isin(crossed[:, column], x[:, column]).all())
    distance = torch.cdist(crossed, x).min(1).values
    assert float((distance > 1e-6).float().mean()) > 0.5
    nearest = torch.cdist(moved, x).min(1).values
    assert 0 < float(nearest.mean()) < 1


def test_a_teacher_that_is_right_is_followed(task, wide):
    """Noisy labels, answers without noise: the teacher's output layer is most of what is delivered."""

    def truth(x):
        return torch.sin(1.5 * x[:, 0]) + 0.5 * x[:, 1]

    y = truth(task.x[0]) + 0.7 * torch.randn(30, generator=generator())
    lessons = said(task, truth)
    network, share = taught(wide, task.x[0], y, lessons)
    assert share > 0.5
    rows = made_up(task.x[0], 300, torch.Generator().manual_seed(1))

    def error(of):
        return float((of.predict(rows[None]).mean(0) - truth(rows)).square().mean())

    assert error(network) < 0.5 * error(wide)
    assert torch.equal(network.weight[:, :-1], wide.weight[:, :-1])
    assert not bool(network.weight[~network.specs.mask].any())


def test_a_teacher_that_knows_nothing_is_not_heard(task, wide):
    lessons = said(task, lambda x: 3 * torch.randn(len(x), generator=torch.Generator().manual_seed(2)))
    network, share = taught(wide, task.x[0], task.y[0], lessons)
    assert share < 0.2
    assert float((network.predict(task.x) - wide.predict(task.x)).mean(0).abs().mean()) < 0.5


def test_the_share_is_of_the_output_layer(task, wide):
    """What is taught is on the line between the network's own output layer and one fitted to the answers."""
    lessons = said(task, lambda x: torch.tanh(x[:, 0]))
    network, share = taught(wide, task.x[0], task.y[0], lessons)
    assert 0 <= share <= 1
    own = wide.predict(lessons.x[None]).mean(0)
    expected = own + share * (lessons.answers - own)
    assert float((network.predict(lessons.x[None]).mean(0) - expected).square().mean()) < 0.02


def test_lessons_of_a_teacher(task):
    who = answerer()
    lessons = lessons_of(who, task, generator(), rows=20)
    assert lessons.x.shape == (20, FEATURES)
    assert lessons.answers.shape == (20,)
    assert lessons.out_of_fold.shape == (30,)
    again = lessons_of(who, task, generator(), rows=20)
    assert torch.equal(lessons.answers, again.answers)
    assert torch.equal(lessons.out_of_fold, again.out_of_fold)


def test_one_network_is_taught_as_several_are(task):
    """Edges that a network does not have stay away, and its mean with itself is itself."""
    one, _ = sample_networks(writer(), task, None, n_samples=1, generator=generator())
    answers = said(task, lambda x: torch.tanh(x[:, 0]))
    lessons = Lessons(answers.x, answers.answers, task.y[0])  # who knows all labels is believed
    alone, share = taught(one, task.x[0], task.y[0], lessons)
    assert share > 0.5
    assert not bool(alone.weight[~one.specs.mask].any())
    twice, _ = taught(one[[0, 0]], task.x[0], task.y[0], lessons)
    torch.testing.assert_close(twice.predict(task.x).mean(0), alone.predict(task.x)[0], atol=0.02, rtol=0.02)


def test_one_task_at_a_time():
    with pytest.raises(InputError, match="one task, got 2"):
        lessons_of(answerer(), tasks(2), generator())
