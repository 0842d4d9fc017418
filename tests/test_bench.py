"""The bench: every piece runs on a tiny setting and gives finite numbers. Nothing is timed here."""

import json
import math
import sys

import pytest
import torch

from bench import fit as benchfit
from bench import machine as bench
from bench import model as benchmodel
from bench.edge_sequence import EdgeSequence
from netformer.networks.specs import Layout, draw_specs

TINY_MODEL = {"d_model": 16, "n_heads": 2, "d_row": 16, "d_vertex": 2, "d_condition": 16, "d_writer": 16}
PIECES = {
    "machine": lambda: bench.measure_machine(size=16, megabytes=1, rounds=1),
    "zoo": lambda: bench.measure_zoo(networks=2, copies=2, steps=3, rounds=1, judged=3),
    "tokenize": lambda: benchmodel.measure_tokens(networks=5, rounds=1),
    "metafeatures": lambda: benchmodel.measure_metafeatures(tables=2, rounds=1, n_rows=30, n_features=2),
    "train": lambda: (
        benchmodel.measure_train(steps=2, size=16, **TINY_MODEL)
        | benchmodel.measure_edge_sequence(networks=3, rounds=1, **TINY_MODEL)
    ),
    "fit": lambda: benchfit.measure_fit(rounds=1, rows=30, many=40, groups=3),
    "sample": lambda: benchmodel.measure_sampling(tasks=2, rounds=1),
}


@pytest.mark.parametrize("piece", PIECES)
def test_every_piece_gives_finite_numbers_under_its_name(piece):
    threads = torch.get_num_threads()
    numbers = PIECES[piece]()
    assert torch.get_num_threads() == threads
    assert {name for name in bench.ASKED if name.startswith(f"{piece}.")} <= set(numbers)
    for name, value in numbers.items():
        assert name.startswith(f"{piece}.")
        assert math.isfinite(value), name
        assert value > 0 or name.endswith(("_test_r2", "max_abs_difference")), name


def test_ratios_are_those_of_their_parts():
    numbers = PIECES["zoo"]()
    assert numbers["zoo.speedup_vs_loop"] == numbers["zoo.loop_us"] / numbers["zoo.engine_us"]
    both = numbers["zoo.loop_all_threads_us"] / numbers["zoo.engine_all_threads_us"]
    assert numbers["zoo.speedup_vs_loop_all_threads"] == pytest.approx(both)
    assert numbers["zoo.judged_networks"] == 3
    assert -1 <= numbers["zoo.loop_median_test_r2"] <= 1


def test_multiply_adds_by_hand():
    """3 inputs, 4 - 5 hidden units, biases: 3*4 + 4*5 + 5 edges carry a product, 4*5 + 5 of them from hidden units."""
    layout = Layout(3, 2, 5)
    specs = draw_specs(
        torch.tensor([3]),
        layout=layout,
        min_hidden_layers=2,
        min_width=4,
        bias_share=1.0,
        skip_share=0.0,
        sparse_share=0.0,
        generator=torch.Generator().manual_seed(0),
    )
    first, second = specs.widths[0].tolist()
    edges = 3 * first + first * second + second
    assert bench.multiply_adds(specs, 7).tolist() == [7 * (2 * edges + first * second + second)]


def test_an_edge_sees_only_those_before_it():
    """Changing the last edge's weight moves the loss of no earlier edge, through the decoder alone (latent held)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = EdgeSequence(n_numbers=9, d_model=16, d_condition=4, d_latent=3, n_heads=2)
    seen = []
    model.heads.register_forward_hook(lambda _, __, out: seen.append(out.detach()))
    torch.nn.init.zeros_(model.posterior.weight)
    parent, vertex = torch.tensor([[0, 1, 0, 3]]), torch.tensor([[3, 3, 4, 4]])
    kind, exists = torch.zeros(1, 4, dtype=torch.int64), torch.ones(1, 4, dtype=torch.bool)
    for last in (0.1, 5.0):
        weight = torch.tensor([[0.3, -0.2, 0.7, last]])
        loss = model(parent, vertex, kind, weight, exists, torch.zeros(1, 4), torch.zeros(1, 3))
        assert torch.isfinite(loss)
    torch.testing.assert_close(seen[0], seen[1])


def test_the_file_has_the_exponent_of_scale_and_nothing_stale(tmp_path, monkeypatch, capsys):
    for name in ("measure_machine", "measure_zoo"):
        monkeypatch.setattr(bench, name, lambda **_: {"zoo.speedup_vs_loop": 2.0, "machine.fp32_gmacs": 3.0})
    for name in ("tokens", "metafeatures", "train", "edge_sequence", "sampling"):
        monkeypatch.setattr(benchmodel, f"measure_{name}", lambda **_: {})
    monkeypatch.setattr(benchfit, "measure_fit", lambda **_: {})
    out = tmp_path / "bench.json"
    out.write_text(json.dumps({"zoo.stale": 5.0}))
    exponents = {"200_steps": {"seconds": 1.01, "cpu_seconds": 0.9}, "1500_steps": {"seconds": 0.8, "cpu_seconds": 0.7}}
    (tmp_path / "scale.json").write_text(json.dumps({"exponent": exponents}))
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--out", str(out)])
    bench.main()
    numbers = json.loads(out.read_text())
    assert numbers == {"machine.fp32_gmacs": 3.0, "scale.exponent": 1.01, "zoo.speedup_vs_loop": 2.0}
    assert "zoo.speedup_vs_loop: 2, asked 400" in (tmp_path / "bench.svg").read_text()
    assert "asked >= 400" in capsys.readouterr().out
