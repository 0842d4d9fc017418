"""Model card: what a reader of the package's weights should know."""

from __future__ import annotations

ROWS = (
    "single",
    "drawn",
    "expected_best_16",
    "wide_16",
    "raw",
    "scratch_best",
    "ridge",
    "mlp",
    "random128_ridge_head",
    "random_wide_ridge_head",
    "retrieval",
)  # shown, as far as the report has them


def model_card(report: dict, trainings: list[dict], params: dict) -> str:
    """The model card of the package's weights, in Markdown: what it is, data, compute, results, limits.

    report: metrics of the report card. trainings: the history of the weights, first training first: commit, seed,
    steps, stream_tasks, temperature. params: those of the weights, section by section.
    """
    real, held = report["zero_shot"]["real_tables"], report["zero_shot"]["heldout_tasks"]
    prior, zoo, sampling, train = params["download"]["prior"], params["zoo"], report["sampling"], params["train"]
    trained = "\n".join(
        f"{i}. {one['steps']} steps, {one['stream_tasks']} fresh tasks, seed {one['seed']}, weights drawn at "
        f"temperature {one['temperature']:g}, commit {one['commit']}"
        for i, one in enumerate(trainings, 1)
    )
    rows = "\n".join(
        f"| `{row}` | {held[row]:.3f} | {real[row]:.3f} / {real[f'{row}_mean']:.3f} |" for row in ROWS if row in real
    )
    layers, inputs = zoo["max_hidden_layers"], zoo["max_features"]
    ingredients = ", ".join(f"{name} {value:g}" for name, value in prior.items())
    return f"""# NetFormer: the weights of the package

A transformer that writes small regression networks for a table it has never seen: at most {layers} hidden layers of
{zoo["max_width"]} units, {inputs} inputs, one output. `NetFormer.load()`, `NetFormerRegressor` and
`NetFormerClassifier` use it. MIT licence.

**Use it for** tables of {train["min_rows"]} to {train["max_rows"]} rows with up to {inputs} columns (numbers, dates,
categories, gaps) and a target of numbers or classes, when you want a small network at once, or one that runs as a
single C file. Classes are answered by `NetFormerClassifier`, which has networks written for one class against the rest
and fits one output layer on the hidden units of all; the weights themselves have seen targets of numbers alone.

**Do not use it for** free text, images, or far larger tables: these are better served by training. Of more than
{inputs} inputs `generate` reads those most correlated with the target; the estimators read them in several parts.

**Data.** Random tasks alone; no real table was used for training, and nothing was selected by scores on real tables.
A zoo of {report["zoo"]["n_networks"]:.0f} trained networks, and a stream of fresh tasks (section `download.prior` of
`params.yaml` explains each value: {ingredients}).

**Training.** On 2 CPU cores, one training after the other, each from the weights of the one before:

{trained}

The first network of a table is written from the mode of the latent prior; the others are drawn at temperature
{params["model"]["temperature"]:g}, their structures at {params["model"]["structure_temperature"]:g}.

**Results** on tasks nobody trained on (`make report-card`; R2 on test rows, an R2 below -1 counts as -1):

| method | held-out random tasks, median | real tables, median / mean |
|---|---|---|
{rows}

What each method is, and differences with their standard errors, are in `docs/results.md`;
where it loses is in `docs/limits.md`.

**Are these copies of training networks?** The distance of written networks to the nearest training network, divided by
that of independently trained ones, is {sampling["memorisation_ratio"]:.2f}. It would be 0 for copies and is
{sampling["average_ratio"]:.2f} for means of two training networks.
"""
