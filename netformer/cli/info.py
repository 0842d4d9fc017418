"""The command `info`: what is installed."""

from __future__ import annotations

import json as json_text

from rich.table import Table

from netformer.cli.arguments import AsJson, Model, Quiet
from netformer.cli.console import Talk


def info(model: Model = None, json: AsJson = False, quiet: Quiet = False) -> None:
    """Version, and what the weights of a model are; without --model, those of the package."""
    from importlib.metadata import PackageNotFoundError, version

    from netformer.generation.generator import PACKAGE
    from netformer.model.store import WEIGHTS, load_model

    try:
        own = version("netformer")
    except PackageNotFoundError:
        own = "not installed, run from its source"
    folder, talk = PACKAGE if model is None else model, Talk(json, quiet)
    loaded = load_model(folder)[0]
    weights = folder / WEIGHTS
    facts = {
        "netformer": own,
        "torch": version("torch"),
        "weights": str(weights),
        "megabytes": round(weights.stat().st_size / 1e6, 1),
        "parameters": sum(part.numel() for part in loaded.state_dict().values()),
    }
    if (folder / "history.json").is_file():  # beside weights that were trained in several runs
        history = json_text.loads((folder / "history.json").read_text())
        steps, tasks = (sum(one[name] for one in history) for name in ("steps", "stream_tasks"))
        facts |= {"steps": steps, "tasks": tasks, "trainings": len(history)}
    facts["layout"] = {
        name: getattr(loaded.layout, name) for name in ("max_features", "max_hidden_layers", "max_width")
    }
    shown = Table(show_header=False)
    for name, value in facts.items():
        shown.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    talk.show(shown)
    talk.finish(facts)
