"""The training loop on a small zoo: draw tasks, train networks, tokenise them, train the model, sample from it.

    python examples/train_loop_example.py [--steps 300]

The same library calls as the pipeline's stages, in one process and without files. At this size the model is far from
trained; the pipeline (`make repro`) is the run that counts.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the library beside this folder

import torch

from netformer.evaluation.baselines import ridge
from netformer.generation.sampling import sample_networks
from netformer.networks.sensitivity import sensitivity
from netformer.networks.specs import Layout
from netformer.networks.symmetry import canonicalize
from netformer.networks.token_tables import detokenize_networks, detokenize_sensitivity, tokenize_networks
from netformer.options import LossWeights, ModelOptions, TrainOptions
from netformer.tasks.metafeatures import NAMES, MetaFeatureTransform, meta_features_frame
from netformer.tasks.scores import r2, scores
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.task import TEST
from netformer.tasks.view import stack_tasks
from netformer.training.batches import Corpus
from netformer.training.loop import train
from netformer.zoo.build import build_zoo


def main(steps: int = 300, n_tasks: int = 40, seed: int = 0) -> dict[str, float]:
    """Median test R2 on held-out tasks: generated networks, every weight written or the output layer solved; ridge."""
    layout = Layout(max_features=10, max_hidden_layers=3, max_width=8)
    sizes = {"max_features": layout.max_features, "min_rows": 100, "max_rows": 200}
    tasks = synthetic_tasks(n_tasks, seed=seed, stream="train", split="train", **sizes)
    held = synthetic_tasks(20, seed=seed, stream="test", split="test", **sizes)
    stack, held_stack = stack_tasks(tasks, layout.max_features), stack_tasks(held, layout.max_features)

    zoo, counts = build_zoo(
        stack,
        layout=layout,
        spec={"min_hidden_layers": 1, "min_width": 4},
        networks_per_task=8,
        duplicate_share=0.1,
        optimizer={"steps": 300, "lr": 0.03, "batch_size": 64, "weight_decay": 0.02},
        min_valid_r2=0.05,
        max_gap=0.4,
        seed=seed,
    )
    print(f"zoo: {counts['kept']} of {counts['drawn']} networks kept, median test R2 {zoo.r2[:, TEST].median():.3f}")

    networks = canonicalize(zoo.networks)
    weight = sensitivity(networks, stack.x[zoo.task_index], stack.train[zoo.task_index])
    tokens = tokenize_networks(networks, weight)
    print(f"tokens: {sum(len(edges) for edges in tokens['vertex'].to_pylist())} edges")

    frame = meta_features_frame([*tasks, *held], 1)
    values = torch.tensor([[frame[name][i].as_py() for name in NAMES] for i in range(len(frame))]).double().numpy()
    transform = MetaFeatureTransform.fit(values[:n_tasks])
    corpus = Corpus(
        detokenize_networks(tokens, layout),
        zoo.task_index,
        detokenize_sensitivity(tokens, layout),
        stack,
        transform(values[:n_tasks]),
    )
    model = train(
        corpus,
        ModelOptions(d_model=64, d_vertex=8, d_row=96),
        TrainOptions(
            seed=seed,
            steps=steps,
            lr=1e-3,
            weight_decay=0.01,
            zoo_tasks=8,
            networks_per_task=4,
            stream_tasks=32,
            min_rows=50,
            max_rows=150,
            budget_share=0.0,
            mode_share=0.5,
            condition_dropout=0.15,
            metafeature_noise=0.5,
            precision="32-true",
            loss=LossWeights(),
        ),
        log=lambda step, losses: print(f"step {step:4d}  loss {losses['total']:.3f}", flush=True),
    )

    every, own = held_stack.rows == TEST, torch.arange(len(held))
    result = {"ridge": float(r2(held_stack.y, ridge(held_stack), every).median())}
    for name, solve in (("generated, every weight written", False), ("generated, output layer solved", True)):
        g = torch.Generator().manual_seed(seed)
        known = transform(values[n_tasks:])
        written = sample_networks(model, held_stack, known, n_samples=1, generator=g, solve=solve)[0]
        result[name] = float(scores(written, held_stack, own)[:, TEST].median())
    print(f"median test R2 on {len(held)} held-out tasks:")
    for name, value in result.items():
        print(f"  {name:<34}{value:7.3f}")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Zoo, tokens, training and sampling in one process.")
    parser.add_argument("--steps", type=int, default=300, help="training steps")
    parser.add_argument("--tasks", type=int, default=40, help="tasks the zoo is trained on")
    arguments = parser.parse_args()
    main(arguments.steps, arguments.tasks)
