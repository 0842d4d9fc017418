"""Drawings: every range can be drawn, files are small and the same, a drawn network is the network."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import draw
from pages import made_evidence, per_task

from netformer.evaluation.scored import Samples
from netformer.networks.specs import Layout
from netformer.report import pictures, showcase, summaries, svg
from netformer.report.charts import Axis, Points, plane
from netformer.report.graph import draw_network, parts_of
from netformer.report.svg import Drawing, sheet
from netformer.tasks.task import TEST, Task, split_rows
from netformer.tasks.view import stack_tasks


@pytest.fixture(scope="module")
def evidence():
    return made_evidence()


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "limits", [(0.0, 0.0), (1e20, 1e20), (-1e308, 1e308), (NAN, 1.0), (0.0, 5e-324), (0.0, 1e-300), (INF, 1.0)]
)
@pytest.mark.parametrize("log", [False, True])
def test_every_range_can_be_drawn(limits, log):
    limits = tuple(max(value, 1e-300) for value in limits) if log else limits
    axis = Axis("x", *limits, log)
    svg = plane("t", axis, axis, [Points([(limits[0], limits[1]), (INF, 0.0)])], diagonal=True).body
    assert "nan" not in svg
    assert "inf" not in svg


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3e-7, 2e5), (40.0, 41.0), (1e-3, 1e4), (0.02, 0.9)])
@pytest.mark.parametrize("log", [False, True])
def test_numbers_of_an_axis_lie_on_it_where_their_values_are(low, high, log):
    axis = Axis("", max(low, 1e-6) if log else low, high, log)
    ticks = axis.ticks(5)
    assert 2 <= len(ticks) <= 8
    transform = np.log10 if log else float
    start, end = transform(axis.low), transform(axis.high)
    for value, text in ticks:
        assert float(text) == value
        assert axis.share(value) == pytest.approx((transform(value) - start) / (end - start), abs=1e-6)


@pytest.mark.parametrize(
    "names",
    [
        ["medium", "low"],
        ["MWMWMW", "@@@@@@@@@@"],
        ["x" * 500, "i"],
        ["漢字" * 40, "😀" * 6],
        ["a name of a level, " * 4, "ww"],
    ],
)
@pytest.mark.parametrize("label", ["", "R2"])
def test_names_left_of_a_frame_are_whole_or_end_in_an_ellipsis_with_the_whole_under_the_pointer(names, label):
    """Letters of the widest usual font are at most 1 high letter wide, "m" 0.974 of it; the others at most 1.4."""
    drawn = plane("t", Axis("x", 0.0, 1.0), Axis(label, -0.5, 1.5, names=names), [Points([(0.5, 0.0)])])
    root = ElementTree.fromstring(f"<svg>{drawn.body}</svg>")
    shown = [text for text in root.iter("text") if text.get("class") == "name"]
    frame = next(root.iter("rect"))
    assert len(shown) == len(names)
    for text, name in zip(shown, names, strict=True):
        title, last = text.find("title"), text.text if text.find("title") is None else text.find("title").tail
        assert last == name if title is None else last.endswith("…") and name.startswith(title.text[:-1][:299])
        assert float(text.get("x")) >= svg.width_of(last) + (13 if label else 1) - 0.1
    assert float(frame.get("x")) >= (11 * 4.11 if "medium" in names else 0) + (17 if label else 5)
    assert float(frame.get("width")) > 0.4 * drawn.width


def test_a_file_is_small_svg_with_the_colours_of_both_themes_and_without_what_a_page_reads(evidence, tmp_path):
    losses = tmp_path / "losses"
    losses.mkdir()
    (losses / "a.tsv").write_text("step\ta\n1\t5.0\n2\t0.1\n3\tnan\n")
    for name in ("a", "b"):
        pictures.write_all(tmp_path / name, per_task(), evidence, losses)
    files = sorted((tmp_path / "a").iterdir())
    names = ["functions", "graphs", "histograms", "latent_map", "loss_curves", "predictions", "zero_shot"]
    assert [path.name for path in files] == [f"{name}.svg" for name in names]
    for path in files:
        text = path.read_text()
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert len(text) < 60_000
        assert "var(--" not in text
        assert "data-" not in text
        assert "prefers-color-scheme: dark" in text
        assert text == (tmp_path / "b" / path.name).read_text()


def test_a_sheet_places_drawings_in_rows_that_do_not_overlap():
    drawings = [Drawing(str(i), "", 100 + 10 * i, 50 + i) for i in range(5)]
    made = sheet("t", drawings, 2, Drawing("foot", "", 30, 20))
    root = ElementTree.fromstring(f"<svg>{made.body}</svg>")
    boxes = [[int(part.get(name)) for name in ("x", "y", "width", "height")] for part in root]
    assert [box[2:] for box in boxes] == [[d.width, d.height] for d in drawings] + [[30, 20]]
    assert boxes[0][:2] == [0, 0]
    for i, (x, y, w, h) in enumerate(boxes):
        assert x + w <= made.width
        assert y + h <= made.height
        for a, b, c, d in boxes[:i]:
            assert x >= a + c or a >= x + w or y >= b + d or b >= y + h


def test_a_dependence_is_what_the_networks_say(evidence):
    """Curve of the delivered network: mean of its predictions with the first column set, row by row."""
    samples, task = evidence.samples, 4
    seen = showcase.dependence(samples, task)
    present = samples.stack.rows[task] >= 0
    x = samples.stack.x[task, present]
    for value, said in seen.one[::12]:
        moved = x.clone()
        moved[:, 0] = value
        assert said == pytest.approx(float(samples.first[[task]].predict(moved[None]).mean()), abs=1e-4)
    assert len(seen.rows) == len(x)
    assert seen.r2_one == pytest.approx(own_r2(samples, task), abs=1e-5)


def own_r2(samples, task):
    keep = samples.stack.rows[task] == TEST
    y, said = samples.stack.y[task, keep], samples.first[[task]].predict(samples.stack.x[[task]])[0, keep]
    return max(-1.0, 1 - float((y - said).square().sum() / (y - y.mean()).square().sum()))


def test_tasks_to_look_at_are_those_with_a_bend_whatever_networks_say():
    rng, tasks = np.random.default_rng(0), []
    for i, shape in enumerate((np.square, np.abs, lambda x: x, lambda x: 0 * x)):
        for source in ("synthetic", "real"):
            X = rng.normal(size=(200, 1))
            y = shape(X[:, 0]) + 0.1 * rng.normal(size=200)
            tasks.append(Task(f"t{i}{source}", source, f"f{i}", "test", X, y, split_rows(200, rng)))
    stack, networks = stack_tasks(tasks, 5), draw(8, layout=Layout(5, 2, 4), inputs=5)
    known = ({"single": torch.zeros(1, 8, 1, 3)}, torch.zeros(1, 8, 1))
    samples = Samples(tasks, stack, torch.arange(8)[None], networks, torch.arange(8), *known)
    picked = [tasks[i].task_id for i in showcase.striking(samples)]
    assert set(picked) == {"t0synthetic", "t1synthetic", "t0real", "t1real"}
    assert "real" not in "".join(picked[:2])


def test_pictures_of_numbers_hold_every_number():
    runs = pd.DataFrame(
        [{"arm": a, "seed": s, **dict.fromkeys(summaries.ABLATED, s / 3)} for a in ("full", "none") for s in range(3)]
    )
    assert summaries.ablations(runs).body.count("a2.8 2.8 0 1 0 5.6 0") == 5 * 2 * 3
    real = pd.DataFrame({"wide_16": [0.5, 0.1], "ridge": [0.4, -0.7], "rf": [0.2, 0.3]}, index=["a", "b"])
    text = summaries.real_tables(real).body
    assert text.index(">b</text>") < text.index(">a</text>")
    starts = {start: {f"steps_{k}_mean": 0.1 * k for k in (0, 1, 5, 25, 100)} for start in summaries.STARTS}
    assert summaries.refinement({"real_tables": starts}).body.count('<path class="marks') == 2 * 5


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_a_drawn_network_is_the_network(n_outputs):
    """Weights and edges are those of the stack; sensitivities are derivatives, taken another way."""
    networks = draw(8, layout=Layout(4, 2, 5, n_outputs), dtype=torch.float64)
    x = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for i in range(8):
        layers, vertices, edges, left_out = parts_of(networks[[i]], x.numpy(), list("abcd"))
        depth, read = int(networks.specs.depth[i]), networks.specs.mask[i, :, 1:5].any(0)
        assert len(layers) == depth + 2
        assert len(vertices) == int(read.sum()) + int(networks.specs.widths[i].sum()) + n_outputs
        assert left_out == 0
        assert len(edges) == int(networks.specs.mask[i, :, 1:].sum())
        weights = networks.weight[i, :, 1:][networks.specs.mask[i, :, 1:]]
        assert sorted(edge.weight for edge in edges) == sorted(weights.tolist())
        ends = ["output"] if n_outputs == 1 else [f"output {k + 1}" for k in range(n_outputs)]
        assert [vertex.name for vertex in vertices[-n_outputs:]] == ends
        for edge in edges:
            source, target = vertices[edge.source], vertices[edge.target]
            assert source.layer == target.layer - 1 or (source.layer == 0 and target.layer == depth + 1)
            assert edge.sensitivity == pytest.approx(abs(edge.weight) * target.sensitivity)
        for vertex in vertices:
            if vertex.layer == 0:
                step = torch.zeros(4, dtype=torch.float64)
                step["abcd".index(vertex.name)] = 1e-6
                moved = networks[[i]].answers((x + step)[None]) - networks[[i]].answers((x - step)[None])
                assert vertex.sensitivity == pytest.approx(float(moved.abs().mean() / 2e-6), rel=2e-2, abs=1e-6)


def test_outputs_have_the_names_they_are_given():
    networks, x = draw(2, layout=Layout(4, 2, 5, 2)), np.ones((9, 4))
    assert [vertex.name for vertex in parts_of(networks[[1]], x, list("abcd"), ("no", "yes"))[1][-2:]] == ["no", "yes"]
    drawing = draw_network(networks, 1, x, list("abcd"), "title", ("no", "yes"))
    assert 'data-n="yes"' in drawing.body


def test_a_large_network_is_drawn_in_part_and_says_so():
    networks = draw(1, layout=Layout(40, 1, 32), inputs=40, min_width=32, sparse_share=0.0, skip_share=0.0)
    _, vertices, edges, left_out = parts_of(networks, np.ones((9, 40)), [f"c{i}" for i in range(40)])
    assert sum(vertex.layer == 0 for vertex in vertices) == 24
    assert len(edges) + left_out == 40 * 32 + 32
    assert len(edges) == 350
