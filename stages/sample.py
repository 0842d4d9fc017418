"""sample: write networks for every test task, one run of a problem after the other (`arms.runs_of`).

What does not depend on the sampling seed, the mode of the prior in every arm, is written once per task. Of `raw`, the
drawn samples of the first run are kept beside it, for the report card.
"""

from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from netformer.artifacts import networks_table, read_parquet, read_tasks, write_parquet
from netformer.evaluation.arms import ARMS, DRAWN, RAW_DRAWN, positions_of_test, runs_of, sample_arm
from netformer.model.store import load_model
from netformer.networks.stack import Networks
from netformer.tasks.metafeatures import metafeature_values
from netformer.tasks.scores import scores
from netformer.tasks.view import stack_tasks
from stages import Bar, run
from stages.params import load_params


def main(root: Path = Path()) -> None:
    params = load_params(root)
    p = params.sample
    model, transform = load_model(root / "models" / "netformer")
    every = read_tasks(root / "data" / "tasks.parquet")
    tasks = [every[i] for i in positions_of_test(every)]
    stack = stack_tasks(tasks, params.zoo.max_features)
    values = read_parquet(root / "data" / "metafeatures.parquet")
    metafeatures = transform(metafeature_values(values, [task.task_id for task in tasks]))
    runs, tables = runs_of(tasks, p.n_seeds), []

    def keep(arm: str, seed: int, at: Tensor, networks: Networks, expected: Tensor) -> None:
        table = networks_table(
            networks,
            [tasks[i].task_id for i in at.tolist()],
            r2=scores(networks, stack, at),
            arm=[arm] * len(networks),
            sampling_seed=torch.full((len(networks),), seed),
        )
        tables.append(table.append_column("expected_r2", pa.array(expected.numpy())))

    bar = Bar("sample")
    for seed, at in enumerate(runs):
        new = at if seed == 0 else at[at != runs[0]]  # tasks that no earlier run was on
        for arm in ARMS:
            count = p.n_samples if arm == "single" or (arm == "raw" and seed == 0) else 1
            here = at if arm == "single" else new
            if not len(here):
                continue
            networks, expected = sample_arm(model, stack[here], metafeatures[here], arm, count, p.seed + seed)
            index = here.repeat_interleave(count)
            first = (torch.arange(len(index)) % count == 0) & torch.isin(index, new)
            drawn = torch.arange(len(index)) % count != 0
            for name, some in ((arm, first), (DRAWN if arm == "single" else RAW_DRAWN, drawn)):
                if bool(some.any()):
                    keep(name, seed, index[some], networks[some], expected[some])
        bar(seed + 1, p.n_seeds)
    table = pa.concat_tables(tables)
    table = table.set_column(0, "net_id", pa.array(range(table.num_rows), pa.int64()))
    write_parquet(table, root / "data" / "samples.parquet")


if __name__ == "__main__":
    run(main)
