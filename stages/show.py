"""show: print the results of the last evaluation.

    python -m stages.show [--markdown | --page]

No stage of the pipeline; `make repro` ends with it. --markdown: print the README's table of results. --page: write that
table into the README, between its marks, and every table into `docs/results.md`, from the committed metrics.json.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from netformer.evaluation.comparison import OURS, base, verdict
from netformer.report.evaluation_report import ROWS, rows_of
from stages import run

REPORTS = {name: Path("reports") / name / "metrics.json" for name in ("pretrained", "evaluate", "mixed")}
CLASSES = Path("reports/classes/metrics.json")  # shown where it is
PAGE, README = Path("docs/results.md"), Path("README.md")
MARKS = ("<!-- results: python -m stages.show --markdown -->\n", "<!-- end of results -->\n")
LEARNERS = {  # in words for who has not read of them
    "wide_16_steps": "`wide_16` with step units grown beside it where they help: `NetFormerRegressor()` as it is",
    "small": "one network, the smallest within 0.01 of the best structure: `NetFormerRegressor(max_loss=0.01)`",
    "ridge": "ridge regression, penalty chosen on valid rows",
    "mlp": "`MLPRegressor` of scikit-learn by L-BFGS, penalty chosen on valid rows",
    "svr": "support vector regression",
    "hgb": "histogram gradient boosting (scikit-learn)",
    "rf": "random forest",
    "extratrees": "extremely randomised trees",
    "catboost": "CatBoost",
    "catboost_chosen": "CatBoost, depth and number of trees chosen on valid rows",
}
SETS = {
    "real_tables": "real tables",
    "real_tables_small": "of these, tables of at most 300 rows",
    "mixed_tables": "mixed tables",
    "mixed_tables_small": "of these, tables of fewer than 1,000 rows",
    "heldout_tasks": "held-out synthetic tasks",
    "heldout_family": "Friedman tasks, a family not trained on",
}
CLASS_SCORES = {  # in words
    "log_loss": "log loss",
    "auc": "AUC",
    "accuracy": "accuracy",
    "brier": "Brier score",
    "calibration_pooled": "calibration error",
}
CLASS_ROWS = {
    "wide_16": "`NetFormerClassifier(steps=False)`: 16 networks merged into one",
    "wide_16_steps": "`wide_16` with step units grown beside it where they help: `NetFormerClassifier()` as it is",
    "single": "one of these networks alone",
    "floor": "the true probabilities, where they are known",
    "majority": "how often each class occurs among the rows fitted",
    "logistic": "logistic regression, penalty by cross-validation",
    "mlp": "`MLPClassifier` of scikit-learn, 64 hidden units, penalty chosen",
    "random_wide": "random hidden units, as many as the merged network has, under its output layer",
    "svc": "support vectors with calibrated probabilities, settings chosen",
    "hgb": "histogram gradient boosting (scikit-learn), leaves and number of trees chosen",
    "rf": "random forest, leaves chosen",
    "extratrees": "extremely randomised trees, leaves chosen",
    "catboost": "CatBoost, native categories, depth and number of trees chosen",
}
SHORT = (  # rows of the README's table
    *("wide_16", "single", "scratch_best", "ridge", "mlp", "random_ridge_head", "random_wide_ridge_head"),
    *("hgb", "rf", "catboost"),
)
LINES = {
    "zoo": ("median_test_r2", "mlp_lbfgs_r2", "ridge_r2", "n_networks"),
    "tokens": ("exact",),
    "reconstruction": ("edge_f1", "edge_f1_chance", "cosine_similarity", "cosine_skill", "functional_r2"),
    "classes": ("wide", "random_wide", "logistic", "majority", "floor", "n_tasks"),
    "sampling": ("validity", "uniqueness", "distinct_specs", "functional_diversity"),
}


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def difference(rows: dict[str, float], ours: str, row: str) -> str:
    """Mean of `ours` minus `row` with its standard error, and what may be said of it; "-" where it was not measured."""
    mean, se = rows.get(f"{ours}_minus_{row}"), rows.get(f"{ours}_minus_{row}_se")
    if mean is None or se is None:
        return "-"
    return f"{mean:+.3f} ± {se:.3f}, {verdict(mean, se)}"


def sets_of_report(report: dict) -> dict[str, dict[str, float]]:
    """The sets that were evaluated, in the order of `SETS`."""
    return {name: report["zero_shot"][name] for name in SETS if name in report["zero_shot"]}


def grid(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = "|" + "---|" * len(heads)
    return "\n".join([f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)])


def table(report: dict) -> str:
    """For a terminal: median test R2 per row and set, the merged network against the others, then the other groups."""
    sets = report["zero_shot"]
    heads = [f"{name} ({rows['single_n_tasks']:.0f})" for name, rows in sets.items()]
    lines = ["Median test R2, zero-shot (tasks in brackets)", "", " " * 26 + "".join(f"{head:>24}" for head in heads)]
    rows = rows_of(sets)
    lines += [f"{row:<26}" + "".join(f"{number(found.get(row)):>24}" for found in sets.values()) for row in rows]
    wide = next((row for row in rows if base(row) == "wide"), "single")
    lines += ["", f"{wide} minus a row: mean over tasks ± standard error; level: within two of them", ""]
    for row in rows:
        cells = [difference(found, wide, row) for found in sets.values()]
        if set(cells) != {"-"}:
            lines.append(f"{row:<26}" + "".join(f"{cell:>24}" for cell in cells))
    lines.append("")
    for group, keys in LINES.items():
        found = [f"{key} {report[group][key]:.5g}" for key in keys if key in report.get(group, {})]
        if found:
            lines.append(f"{group:<16}{', '.join(found)}")
    return "\n".join(lines)


def n_tables(rows: dict[str, float]) -> str:
    """Tables of a set, or tasks."""
    return f"{rows.get('single_n_tasks', rows.get('wide_16_n_tasks', 0)):.0f}"


def markdown(report: dict, mixed: dict) -> str:
    """The README's table: mean test R2 and the paired difference from `wide_16`, on real tables and synthetic tasks.
    mixed: the report on mixed tables."""
    every = report["zero_shot"] | mixed
    sets = {name: every[name] for name in ("mixed_tables", "real_tables", "heldout_tasks")}
    heads = ["mean test R2"]
    for name, rows in sets.items():
        heads += [f"{n_tables(rows)} {SETS[name]}", "`wide_16` minus it"]
    lines = []
    for row in SHORT:
        cells = [f"`{row}`"]
        for rows in sets.values():
            cells += [number(rows.get(f"{row}_mean")), difference(rows, "wide_16", row)]
        lines.append(cells)
    return grid(heads, lines)


def definitions() -> str:
    """Every row of the tables in plain words."""
    return grid(["row", "what it is"], [[f"`{row}`", words] for row, words in (ROWS | LEARNERS).items()])


def medians_and_means(report: dict) -> str:
    """Median / mean test R2 of every row on every set."""
    sets = sets_of_report(report)
    heads = ["median / mean", *(f"{SETS[name]} ({n_tables(rows)})" for name, rows in sets.items())]
    lines = [
        [f"`{row}`", *(f"{number(rows.get(row))} / {number(rows.get(f'{row}_mean'))}" for rows in sets.values())]
        for row in rows_of(sets)
    ]
    return grid(heads, [[cell.replace("- / -", "-") for cell in line] for line in lines])


def head_to_head(report: dict, ours: str) -> str:
    """`ours` against every other row on every set: paired difference, its standard error, verdict, share of wins."""
    sets = sets_of_report(report)
    heads = [f"`{ours}` minus", *(SETS[name] for name in sets)]
    lines = []
    for row in rows_of(sets):
        cells = []
        for rows in sets.values():
            said, wins = difference(rows, ours, row), rows.get(f"{ours}_wins_{row}")
            cells.append(said if wins is None else f"{said} ({wins:.0%})")
        if set(cells) != {"-"}:
            lines.append([f"`{row}`", *cells])
    return grid(heads, lines)


def ratings(report: dict) -> str:
    """Elo ratings on the real tables, best first, with their 95 % interval."""
    found = report.get("rating", {})
    rows = sorted((row for row in found if f"{row}_low" in found), key=lambda row: -found[row])
    lines = [[f"`{row}`", *(f"{found[f'{row}{end}']:.0f}" for end in ("", "_low", "_high"))] for row in rows]
    return grid(["row", "Elo", "from", "to"], lines)


def class_means(scores: dict) -> str:
    """Mean of every score over the tables of a set, a line per row."""
    lines = [
        [f"`{row}`", *(number(scores[score].get(row)) for score in CLASS_SCORES), words]
        for row, words in CLASS_ROWS.items()
        if row in scores["log_loss"]
    ]
    return grid(["mean", *CLASS_SCORES.values(), "what it is"], lines)


def class_head_to_head(classes: dict, ours: str) -> str:
    """Log loss of `ours` against every other row on every set: less is ahead."""
    lines = []
    for row in CLASS_ROWS:
        cells = []
        for found in classes.values():
            losses = found["log_loss"]
            mean, se = losses.get(f"{ours}_minus_{row}"), losses.get(f"{ours}_minus_{row}_se")
            said = "-" if mean is None else f"{mean:+.3f} ± {se:.3f}, {verdict(-mean, se)}"
            cells.append(said if mean is None else f"{said} ({losses[f'{ours}_wins_{row}']:.0%})")
        if set(cells) != {"-"}:
            lines.append([f"`{row}`", *cells])
    return grid([f"log loss of `{ours}` minus", *(SETS[name] for name in classes)], lines)


def class_page(classes: dict) -> list[str]:
    """The part of the page on targets that are classes, from the metrics of `make class-card`."""
    parts = [
        "## Classes",
        "Targets of 2 to 10 classes (`make class-card`). Real tables are those of scikit-learn and binary, text and "
        "whole-number columns of tables inside other packages, chosen by rule and not by hand "
        "(`reports/classes/considered.csv`: which, and why), at most 1,000 rows, five row splits within the classes, "
        "60 % to fit on, 20 % to choose on and 20 % to test on. `wide_16` is fitted on the raw columns of the first "
        "two parts, and so are the others after choosing. Synthetic tasks are drawn with their true probabilities. "
        "Log loss is in nats, of probabilities of at least 0.000001; AUC of each class against the rest; the "
        "calibration error is that of the most probable class in 15 intervals, over the test rows of all tables "
        "together.",
    ]
    for name, scores in classes.items():
        parts += [f"Means over {scores['n_tasks']} tables: {SETS[name]}.", class_means(scores)]
    return [*parts, class_head_to_head(classes, "wide_16_steps")]


def page(pretrained: dict, pipeline: dict, mixed: dict, classes: dict | None = None) -> str:
    """`docs/results.md`: every table of the reports: of the package's weights, on mixed tables and classes too, and of
    the default pipeline."""
    parts = [
        "# Results",
        "Made by `python -m stages.show --page` from `reports/pretrained/metrics.json` (`make report-card`), "
        "`reports/evaluate/metrics.json` (`make repro`) and `reports/mixed/metrics.json` (`make mixed-tables`); no "
        "number here is typed.",
        "R2 is that of test rows, which nothing was fitted on or chosen by; an R2 below -1 counts as -1. Networks are "
        "written for tables the model has never seen. A real table is split into train, valid and test rows five "
        "times, at random; its R2 is the mean over these splits, each with networks drawn under another seed. A "
        "synthetic task has one split, and its R2 is the mean over five seeds. Medians and means are over tables.",
        "A difference is the mean over tables of one row minus another on the same splits, ± its standard error over "
        "tables. **Ahead** and **behind** are said of more than two standard errors, **level** of anything less. In "
        "brackets the share of tables on which the first one has the higher R2, a tie being half.",
        "## What the rows are",
        "Those with `_16` use 16 networks per table. `ridge`, `mlp` and the random units read the table as the model "
        "does: of a wider table as many columns as the model reads, those most correlated with the target; the "
        "learners from `svr` on read every column.",
        definitions(),
    ]
    for title, report in (("The weights of the package", pretrained), ("The default pipeline", pipeline)):
        parts += [f"## {title}", "Median and mean test R2.", medians_and_means(report)]
        ours = [row for row in rows_of(report["zero_shot"]) if base(row) in OURS]
        tables = [head_to_head(report, row) for row in ours]
        parts += [found for found in tables if found.count("\n") > 1]
        if report.get("rating"):
            parts += [
                "Elo on the real tables, by [`bencheval`](https://pypi.org/project/bencheval/), the engine of "
                "TabArena: every pair of rows plays on every table, `ridge` has 1000, 400 points are odds of 10 to 1; "
                "with the 95 % interval over bootstraps of the tables.",
                ratings(report),
            ]
    shown = {"zero_shot": mixed}
    parts += [
        "## Mixed tables",
        "Real tables with text, dates and gaps that come inside other Python packages, chosen by rule and not by hand "
        "(`reports/mixed/considered.csv`: which, and why); at most 1,500 rows, five row splits of 70 % to fit on and "
        "30 % to test on. `wide_16` is `NetFormerRegressor(steps=False)` on the raw table. The others read it through "
        "skrub's preprocessing; forests, boosting and `catboost_chosen` choose their settings on a fifth of the rows "
        "fitted and are fitted again on all of them.",
        medians_and_means(shown),
        head_to_head(shown, "wide_16"),
        *(class_page(classes) if classes else []),
    ]
    return "\n\n".join(parts) + "\n"


def readme_with(text: str, found: str) -> str:
    """The README with its table of results replaced."""
    before, _, rest = text.partition(MARKS[0])
    return before + MARKS[0] + found + "\n" + MARKS[1] + rest.partition(MARKS[1])[2]


def read(path: Path) -> dict:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; run the pipeline first (make repro)")
    return json.loads(path.read_text())


def main(root: Path = Path(), arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.show", description=__doc__.partition("\n")[0])
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print the README's table")
    form.add_argument("--page", action="store_true", help=f"write {PAGE} and the table of {README}")
    options = parser.parse_args(arguments)
    if options.markdown or options.page:
        pretrained, mixed = read(root / REPORTS["pretrained"]), read(root / REPORTS["mixed"])
        if options.markdown:
            print(markdown(pretrained, mixed))
            return
        classes = read(root / CLASSES) if (root / CLASSES).exists() else None
        written = page(pretrained, read(root / REPORTS["evaluate"]), mixed, classes)
        (root / PAGE).write_text(written, encoding="utf-8")
        text = readme_with((root / README).read_text(encoding="utf-8"), markdown(pretrained, mixed))
        (root / README).write_text(text, encoding="utf-8")
        print(f"written: {PAGE}, {README}")
        return
    path = root / REPORTS["evaluate"]
    print(table(read(path)))
    print(f"{'report':<16}{path.parent / 'report.html'}")


if __name__ == "__main__":
    import sys

    run(lambda root: main(root, sys.argv[1:]))
