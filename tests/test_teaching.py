"""Teaching: batches, schedule, resumption, the stored teacher, the stage."""

import csv
import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch
from teachers import FEATURES, OPTIONS, answerer, tasks, writer

from netformer.errors import InputError
from netformer.files import imported_names
from netformer.teacher.answers import Answerer
from netformer.teacher.batches import TeachOptions, draw_lesson
from netformer.teacher.loop import CURVE, decay_start, rate, steps_in, teach
from netformer.teacher.store import load_teacher, save_teacher
from stages import teach as stage
from stages.params import Params, read_params

ROOT = Path(__file__).parents[1]
SMALL = TeachOptions(
    steps=8, every=2, rows=60, least_tasks=2, most_tasks=6, min_rows=10, max_rows=20, warmup=2, average=2
)


def weights(progress) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in progress.teacher.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())


def test_a_batch_depends_on_seed_and_step_alone():
    draw = {"max_features": FEATURES, "networks": 1, "writer": writer(), "prior": stage_tasks().download.prior}
    a, b = (draw_lesson(3, SMALL, **draw) for _ in range(2))
    assert torch.equal(a.tasks.x, b.tasks.x)
    assert torch.equal(a.fits.base, b.fits.base)
    other = draw_lesson(4, SMALL, **draw)
    assert a.tasks.x.shape != other.tasks.x.shape or not torch.equal(a.tasks.x, other.tasks.x)
    assert SMALL.least_tasks <= len(a) <= SMALL.most_tasks
    assert bool(a.tasks.train[:, : a.n_train].all())
    assert not bool(a.tasks.train[:, a.n_train :].any())


def test_long_tasks_come_fewer_at_a_time():
    options = TeachOptions(rows=200, least_tasks=2, most_tasks=100, min_rows=10, max_rows=60)
    prior = stage_tasks().download.prior
    drawn = [draw_lesson(i, options, max_features=4, networks=0, writer=None, prior=prior) for i in range(12)]
    assert len({len(lesson) for lesson in drawn}) > 4
    assert max(lesson.tasks.y.numel() for lesson in drawn) < 1.5 * 200


def test_the_rate_is_constant_and_then_falls_to_zero():
    options = TeachOptions(steps=100, warmup=10, decay_share=0.2)
    rates = [rate(step, options) for step in range(100)]
    assert rates[0] == 0.1
    assert set(rates[9:80]) == {1.0}
    assert decay_start(options) == 80
    assert all(a > b for a, b in itertools.pairwise(rates[79:]))
    assert 0 < rates[-1] < 0.1
    assert [rate(step, TeachOptions(steps=1000, warmup=10)) for step in range(80)] == rates[:80]


def test_a_training_that_was_interrupted_ends_with_the_same_weights(tmp_path):
    prior = stage_tasks().download.prior
    whole = teach(OPTIONS, SMALL, writer(), prior=prior)
    assert len(whole.curve) == 8
    assert len(whole.curve[0]) == len(CURVE)
    calls = []
    for _ in range(20):
        part = teach(OPTIONS, SMALL, writer(), prior=prior, folder=tmp_path, log=calls.append, minutes=0.0)
        if len(part.curve) == 8:
            break
    assert len(calls) == 4
    assert part.curve == whole.curve
    assert same(weights(part), weights(whole))
    assert steps_in(tmp_path / "latest.safetensors") == 8
    assert steps_in(tmp_path / "trunk.safetensors") == 6
    again = teach(OPTIONS, SMALL, writer(), prior=prior, folder=tmp_path)
    assert again.curve == whole.curve
    assert same(weights(again), weights(whole))


def test_a_longer_training_goes_on_from_the_trunk(tmp_path):
    prior, longer = stage_tasks().download.prior, TeachOptions(**{**vars(SMALL), "steps": 12})
    teach(OPTIONS, SMALL, writer(), prior=prior, folder=tmp_path)
    seen = []
    on = teach(OPTIONS, longer, writer(), prior=prior, folder=tmp_path, log=lambda p: seen.append(len(p.curve)))
    assert seen[0] == 8, "what decayed is not gone on with, and the trunk is at 6"
    fresh = teach(OPTIONS, longer, writer(), prior=prior)
    assert on.curve == fresh.curve
    assert same(weights(on), weights(fresh))


def test_until_the_decay_the_teacher_is_the_mean_of_the_last_checkpoints():
    seen = []

    def log(progress):
        seen.append((weights(progress), progress.averaged().state_dict()))

    teach(
        OPTIONS, TeachOptions(**{**vars(SMALL), "decay_share": 0.0}), None, prior=stage_tasks().download.prior, log=log
    )
    (a, first), (b, second), (c, third), _ = seen
    assert same(a, first)
    for name in a:
        torch.testing.assert_close(second[name], (a[name] + b[name]) / 2)
        torch.testing.assert_close(third[name], (b[name] + c[name]) / 2)


def test_it_learns():
    """More than the fit it corrects knows, on tasks that each step sees for the first time."""
    options = TeachOptions(steps=150, every=1000, rows=1000, min_rows=40, max_rows=60, precision="32-true", warmup=10)
    prior = read_params(ROOT / "params.yaml", Params).download.prior
    small = type(OPTIONS)(**{**vars(OPTIONS), "networks": 0, "d_model": 32, "d_hidden": 64})
    loss, base = torch.tensor(teach(small, options, None, prior=prior).curve)[-50:, :2].mean(0).tolist()
    assert loss < 0.99 * base, loss / base


def test_a_stored_teacher_answers_as_before(tmp_path):
    who, some = answerer(), tasks()
    save_teacher(who, tmp_path)
    torch.testing.assert_close(
        load_teacher(tmp_path, who.writer).answers(some), who.answers(some), atol=0.02, rtol=0.02
    )


def test_bad_teachers_are_refused_in_one_line(tmp_path):
    who = answerer()
    with pytest.raises(InputError, match="does not exist; train a teacher first"):
        load_teacher(tmp_path, who.writer)
    save_teacher(who, tmp_path)
    with pytest.raises(InputError, match="writer must be") as error:
        load_teacher(tmp_path, None)
    assert "\n" not in str(error.value)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, words in (
        ({"format": 7}, "format must be 1, found 7"),
        ({"teacher": {"width": 3}}, "must hold a teacher"),
        ({"teacher": {**config["teacher"], "d_model": 8}}, "other names or shapes"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(InputError, match=words):
            load_teacher(tmp_path, who.writer)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="must hold a teacher"):
        load_teacher(tmp_path, who.writer)


@pytest.mark.parametrize("bad", [{"rows": 0}, {"min_rows": 50, "max_rows": 40}, {"lr": 0.0}, {"decay_share": 2.0}])
def test_options_out_of_range(bad):
    with pytest.raises(InputError, match="must be"):
        TeachOptions(**bad)


def stage_tasks() -> Params:
    return read_params(ROOT / "params" / "pretrained.yaml", Params)


def test_params_name_every_option():
    params = read_params(ROOT / stage.PARAMS, stage.TeacherParams)
    text = (ROOT / stage.PARAMS).read_text()
    for section in (params.teacher, params.teach):
        assert all(f"\n  {name}: " in text for name in vars(section))
    assert vars(params.teacher) == vars(type(params.teacher)())
    assert vars(params.teach) == vars(type(params.teach)())


def test_the_stage_writes_curve_and_teacher_and_goes_on(tmp_path, monkeypatch):
    (tmp_path / "params").mkdir()
    shutil.copy(ROOT / "params" / "pretrained.yaml", tmp_path / "params")
    monkeypatch.setattr(stage, "WRITER", ROOT / "netformer" / "pretrained")
    monkeypatch.setattr(stage, "VALID", (2, 3))
    tiny = {**vars(OPTIONS), "max_features": 16, "networks": 1}
    params = stage.TeacherParams(teacher=tiny, teach=vars(SMALL) | {"steps": 4})
    stage.main(tmp_path, minutes=0.0, params=params, accelerator="auto")
    root = tmp_path / "build" / "teacher"

    def curve():
        with (root / "curve.csv").open() as file:
            return [int(row["step"]) for row in csv.DictReader(file)]

    assert curve() == [2]
    stage.main(tmp_path, params=params)
    assert curve() == [2, 3, 4]
    assert isinstance(load_teacher(root / "model", stage.load_model(stage.WRITER)[0]), Answerer)
    with pytest.raises(InputError, match="max_features must be 16"):
        stage.main(tmp_path, params=stage.TeacherParams(teacher=vars(OPTIONS), teach=vars(SMALL)))


def test_no_stage_of_the_pipeline_imports_the_teacher():
    for name in ("download", "zoo", "tokenize", "metafeatures", "train", "sample", "evaluate"):
        assert not any("teacher" in word for word in imported_names(ROOT / "stages" / f"{name}.py"))
