"""zoo_benchmark: what readers tell of networks from their weights, on the zoo of the pipeline (`netformer.readers`).

    python -m stages.zoo_benchmark [--reader MODULE:FUNCTION ...] [--ways task family architecture] [--networks 3000]
                                   [--zoo data/zoo.parquet] [--model models/netformer] [--out reports/zoo_benchmark]

No stage of the pipeline; reads what it has written. --reader: readers of your own, in the current folder or installed,
beside those there are (docs/zoo_benchmark.md). --networks: on either side of a split, at most. Writes into FOLDER:
card.md, metrics.json, scores.csv, pictures. Ten minutes on one core.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from netformer.artifacts import write_json
from netformer.errors import InputError
from netformer.files import replacing
from netformer.model.prompt import whole_number
from netformer.model.store import load_model
from netformer.model.vae import TransformerVAE
from netformer.readers.boosted import mean_answer, statistics, statistics_and_score
from netformer.readers.card import Reader, card, judged, summary
from netformer.readers.latent import between, neighbours, read_out
from netformer.readers.learned import latents, latents_of, probes
from netformer.readers.outside import functional, plain_functional
from netformer.readers.questions import WAYS, Benchmark, load_benchmark
from netformer.report import reader_pictures
from netformer.report.svg import save
from stages import Bar, run


def named(path: str) -> Reader:
    """The reader that MODULE:FUNCTION names. Raises InputError where there is none."""
    module, _, function = path.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"--reader must be MODULE:FUNCTION, got {path!r}: {error}") from None
    finally:
        sys.path.pop(0)
    return found


def main(options: argparse.Namespace) -> None:
    most = whole_number("--networks", options.networks, 20)
    own = {path: named(path) for path in options.reader}
    model, _ = load_model(options.model)
    benchmark = load_benchmark(options.zoo)
    readers: dict[str, Reader] = {"mean": mean_answer, "weight statistics, boosted": statistics}
    if find_spec("nfn") is not None:
        readers |= {"nfn statistics": plain_functional, "nfn": functional}
    readers |= {"probes": probes, "our latents": latents(latents_of(model, benchmark)), **own}
    readers["statistics and train score"] = statistics_and_score
    bar = Bar("zoo_benchmark")
    scores = judged(benchmark, readers, options.ways, bar, most_fit=most, most_test=most)
    write_all(Path(options.out), scores, benchmark, model, most)


def write_all(folder: Path, scores: pd.DataFrame, benchmark: Benchmark, model: TransformerVAE, most: int) -> None:
    """The card, its figures and pictures, from scores of readers (`judged`) and what the latents of a model know."""
    found, split = summary(scores), benchmark.splits("task", most, most)[0]
    read, one_by_one, alike = read_out(model, benchmark, split)
    mixed, near = between(model, benchmark, split), neighbours(model, benchmark, split)
    folder.mkdir(parents=True, exist_ok=True)
    scores.round(6).to_csv(folder / "scores.csv", index=False)
    facts = {name: round(value, 4) for name, value in alike.items()}
    tables = {"read_out": read, "between": mixed, "neighbours": near}
    latent = {name: table.round(4).to_dict("index") for name, table in tables.items()}
    sizes = {"networks": len(benchmark.networks), "tasks": len(benchmark.tasks)}
    write_json({"readers": found, "zoo": sizes, "latent": _keys(latent) | {"decoded": facts}}, folder / "metrics.json")
    text = card(found, sizes, _titled(tables, facts))
    with replacing(folder / "card.md") as part:
        part.write_text(text)
    save(reader_pictures.readers(found), folder / "readers.svg")
    save(reader_pictures.latent(one_by_one, mixed, near), folder / "latent.svg")
    print(f"written: {folder / 'card.md'}")


def _keys(value: object) -> dict:
    """The same with text for keys, as JSON has them."""
    assert isinstance(value, dict)
    return {str(key): _keys(one) if isinstance(one, dict) else one for key, one in value.items()}


def _titled(tables: dict[str, pd.DataFrame], facts: dict[str, float]) -> dict[str, pd.DataFrame]:
    """Tables under what they show."""
    decoded = pd.DataFrame([facts], index=pd.Index(["share or R2"], name="encoded and decoded"))
    return {
        "R2 of size and test R2 of decoded networks, by what they are read from": tables["read_out"],
        "Networks encoded with the rows of their task and decoded": decoded,
        "Median test R2 on the way between two networks of a task": tables["between"],
        "How often the nearest other network is of the same": tables["neighbours"],
    }


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="python -m stages.zoo_benchmark", description="Readers of networks, judged.")
    parser.add_argument("--reader", action="append", default=[], metavar="MODULE:FUNCTION")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--networks", type=int, default=3000)
    parser.add_argument("--zoo", type=Path, default=Path("data/zoo.parquet"))
    parser.add_argument("--model", type=Path, default=Path("models/netformer"))
    parser.add_argument("--out", type=Path, default=Path("reports/zoo_benchmark"))
    return parser.parse_args(given)


if __name__ == "__main__":
    options = arguments()
    run(lambda root: main(options))
