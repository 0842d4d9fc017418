"""sample: write networks for every task outside the train split, one arm of the experiment at a time."""

from pathlib import Path

import pyarrow as pa
import torch

from netformer.artifacts import networks_table, read_parquet, read_tasks, write_parquet
from netformer.evaluation.arms import ARMS, CONTROLS, sample_arm
from netformer.model.store import load_model
from netformer.networks.stack import concatenate
from netformer.tasks.metafeatures import metafeature_values
from netformer.tasks.scores import scores
from netformer.tasks.view import stack_tasks
from stages import Bar, run
from stages.params import load_params


def main(root: Path = Path()) -> None:
    params = load_params(root)
    p = params.sample
    model, transform = load_model(root / "models" / "netformer")
    tasks = [t for t in read_tasks(root / "data" / "tasks.parquet") if t.split == "test"]
    ids = [task.task_id for task in tasks]
    stack = stack_tasks(tasks, params.zoo.max_features)
    known = transform(metafeature_values(read_parquet(root / "data" / "metafeatures.parquet"), ids))
    bar, tables = Bar("sample"), []
    for number, arm in enumerate(ARMS):
        count = 1 if arm in CONTROLS else p.n_samples
        index = torch.arange(len(tasks)).repeat_interleave(count)
        drawn = [sample_arm(model, stack, known, arm, count, p.seed + seed) for seed in range(p.n_seeds)]
        networks, at = concatenate([part for part, _ in drawn]), index.repeat(p.n_seeds)
        table = networks_table(
            networks,
            [ids[i] for i in at.tolist()],
            r2=scores(networks, stack, at),
            arm=[arm] * len(networks),
            sampling_seed=torch.arange(p.n_seeds).repeat_interleave(len(index)),
        )
        tables.append(table.append_column("expected_r2", pa.array(torch.cat([part for _, part in drawn]).numpy())))
        bar(number + 1, len(ARMS))
    table = pa.concat_tables(tables)
    table = table.set_column(0, "net_id", pa.array(range(table.num_rows), pa.int64()))
    write_parquet(table, root / "data" / "samples.parquet")


if __name__ == "__main__":
    run(main)
