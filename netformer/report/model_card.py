"""Model card: what a reader of the package's weights should know."""

from __future__ import annotations


def model_card(report: dict, legs: list[dict], params: dict) -> str:
    """The model card of the package's weights, in Markdown: what it is, data, compute, results, limits."""
    real, held = report["zero_shot"]["real_tables"], report["zero_shot"]["heldout_tasks"]
    prior, zoo, sampling, train = params["download"]["prior"], params["zoo"], report["sampling"], params["train"]
    trained = "\n".join(
        f"- leg {i}: {leg['steps']} steps, {leg['stream_tasks']} fresh tasks, seed {leg['seed']}, weights drawn at "
        f"temperature {leg['temperature']:g}, {leg['commit']}"
        for i, leg in enumerate(legs, 1)
    )
    rows = "\n".join(
        f"| `{row}` | {held[row]:.3f} | {real[row]:.3f} / {real[f'{row}_mean']:.3f} |"
        for row in (
            "single",
            "drawn",
            "expected_best_16",
            "wide_16",
            "raw",
            "scratch_best",
            "ridge",
            "mlp",
            "random128_ridge_head",
            "retrieval",
        )
    )
    ingredients = ", ".join(f"{name} {value:g}" for name, value in prior.items())
    return f"""# NetFormer, pretrained weights

Writes regression networks for a table it has never seen: at most {zoo["max_hidden_layers"]} hidden layers of
{zoo["max_width"]} units, {zoo["max_features"]} inputs, one output. `NetFormer.load()` and `NetFormerRegressor` use it.

**Data.** Synthetic tasks alone; no real table was trained on or chosen by. A zoo of {report["zoo"]["n_networks"]:.0f}
trained networks, and a stream of fresh tasks, drawn with {ingredients}.

**Training.** On 2 CPU cores.

{trained}

The first network of a table is the mode of the prior; others are drawn at temperature
{params["model"]["temperature"]:g}, their structures at {params["model"]["structure_temperature"]:g}.

**Results** on tasks nobody trained on (`make report-card`; R2 on test rows, floored at -1):

| row | held-out tasks, median | real tables, median / mean |
|---|---|---|
{rows}

Copies? Distance to the nearest training network over that of independently trained ones:
{sampling["memorisation_ratio"]:.2f}; 0 for copies, {sampling["average_ratio"]:.2f} for means of two training networks.

**Limits.** Regression, one target, numeric and finite columns. Of more than {zoo["max_features"]} columns `generate`
reads those most correlated with the target; the estimator reads several views. Fresh tasks had {train["min_rows"]} to
{train["max_rows"]} rows: far larger tables are better served by training. `reports/pretrained/`: where it loses.
"""
