"""show: print the results of the last evaluation; with --markdown, the tables of the README.

No stage of the pipeline; `make repro` ends with it.
"""

import json
import sys
from pathlib import Path

from stages import run

OURS = ("single", "drawn", "expected_best_16", "best_of_16", "average_16", "wide_16", "distilled", "raw")
CONTROLS = ("raw_with_metafeatures", "shuffled_condition", "metafeatures_only", "unconditional")
BASELINES = (
    *("scratch", "scratch_best", "ridge", "mlp", "random_ridge_head", "random128_ridge_head", "retrieval"),
    *("svr", "hgb", "rf", "extratrees", "catboost", "zoo_average", "constant", "ceiling"),
)
ROWS = OURS + CONTROLS + BASELINES
LINES = {
    "zoo": ("median_test_r2", "mlp_lbfgs_r2", "ridge_r2", "n_networks"),
    "tokens": ("exact",),
    "reconstruction": ("edge_f1", "edge_f1_chance", "cosine_similarity", "cosine_skill", "functional_r2"),
    "sampling": ("validity", "uniqueness", "distinct_specs", "functional_diversity"),
}


def table(report: dict) -> str:
    """Median test R2 a row and set, then the other groups, a line each; a row that was not measured is left out."""
    zero_shot = report["zero_shot"]
    sets = list(zero_shot)
    lines = ["Median test R2, zero-shot (tasks in brackets)", ""]
    heads = [f"{name} ({zero_shot[name]['single_n_tasks']:.0f})" for name in sets]
    lines.append(" " * 20 + "".join(f"{head:>24}" for head in heads))
    for row in ROWS:
        values = [zero_shot[name].get(row) for name in sets]
        if any(value is not None for value in values):
            cells = "".join(f"{'-' if value is None else format(value, '.3f'):>24}" for value in values)
            lines.append(f"{row:<20}{cells}")
    lines.append("")
    for group, keys in LINES.items():
        found = [f"{key} {report[group][key]:.5g}" for key in keys if key in report.get(group, {})]
        if found:
            lines.append(f"{group:<16}{', '.join(found)}")
    return "\n".join(lines)


def markdown(report: dict) -> str:
    """The rows of the README's result table."""
    zero_shot = report["zero_shot"]
    sets = list(zero_shot)
    heads = [f"{name} ({zero_shot[name]['single_n_tasks']:.0f})" for name in sets]
    lines = [f"| median test R2 | {' | '.join(heads)} |", "|---|" + "---|" * len(sets)]
    for row in ROWS:
        values = [zero_shot[name].get(row) for name in sets]
        if any(value is not None for value in values):
            cells = ["-" if value is None else f"{value:.3f}" for value in values]
            lines.append(f"| `{row}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def head_to_head(report: dict) -> str:
    """The README's table of the real tables: medians, means, and how often one of ours is ahead."""
    real = report["zero_shot"]["real_tables"]
    rows = ["single", "wide_16", "ridge", "mlp", "random128_ridge_head", "svr", "hgb", "rf", "extratrees", "catboost"]
    lines = ["| real tables | median | mean | `single` ahead on | `wide_16` ahead on |", "|---|---|---|---|---|"]
    for row in rows:
        ahead = [real.get(f"{our}_beats_{row}") for our in ("single", "wide_16")]
        cells = ["-" if value is None else f"{value:.0%}" for value in ahead]
        lines.append(f"| `{row}` | {real[row]:.3f} | {real[f'{row}_mean']:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(root: Path = Path()) -> None:
    folder = root / "reports" / "evaluate"
    path = folder / "metrics.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; run the pipeline first (make repro)")
    report = json.loads(path.read_text())
    if "--markdown" in sys.argv[1:]:
        print(markdown(report))
        pretrained = json.loads((root / "reports" / "pretrained" / "metrics.json").read_text())
        print(f"\n{markdown(pretrained)}\n\n{head_to_head(pretrained)}")
        return
    print(table(report))
    pictures = ", ".join(file.name for file in sorted(folder.glob("*.svg")))
    print(f"{'pictures':<16}{folder}/: {pictures}")


if __name__ == "__main__":
    run(main)
