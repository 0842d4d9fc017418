"""Engine: the loop. Ask for genomes, write, solve and score them in one batch, tell; keep every generation.

What is kept of a generation is its genomes and their values, so that a search that was stopped is repeated up to there
without any network being written: the same seed asks for the same genomes. Its result is that of a search that was not.
"""

from __future__ import annotations

import json
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from netformer.errors import InputError
from netformer.files import replacing
from netformer.model.prompt import whole_number
from netformer.search.algorithms import proposer
from netformer.search.front import curve, nondominated
from netformer.search.objectives import Bound, Objective, Values, bounds_of, chosen
from netformer.search.problem import SearchTask
from netformer.search.scoring import Scored, score
from netformer.search.spaces import Space

SETTINGS = "search.json"
_ZIP = (RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)
_DAMAGED = (OSError, ValueError, KeyError, EOFError, tokenize.TokenError, *_ZIP)  # what the header of an array raises
PROBED = 3  # random candidates that objectives are tried on before the search


@dataclass(frozen=True, eq=False)
class Found:
    """Every candidate of a search, in the order in which they were scored.

    genomes, values: of each. kept: whether it keeps the constraints. generation: in which it was.
    """

    space: Space
    objectives: tuple[Objective, ...]
    genomes: Float[np.ndarray, "n genes"]
    values: Float[np.ndarray, "n objectives"]
    kept: Bool[np.ndarray, " n"]
    generation: Int[np.ndarray, " n"]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the objectives, in the order of `values`."""
        return tuple(one.name for one in self.objectives)

    @property
    def front(self) -> Int[np.ndarray, " k"]:
        """Candidates that keep the constraints and that no other is at least as good as, in order of the first
        objective."""
        at = np.flatnonzero(self.kept)
        return at[nondominated(self.values[at])] if len(at) else at

    @property
    def hypervolume(self) -> list[tuple[int, float]]:
        """Evaluations so far and normalised hypervolume, after each generation (`front.Volume`)."""
        of = [self.generation == number for number in range(int(self.generation.max()) + 1)]
        return curve(self.space.task, self.objectives, [(self.values[one], self.kept[one]) for one in of])

    def networks(self, which: Int[np.ndarray, " k"]) -> Scored:
        """Some of the candidates once more, as networks in canonical coordinates with solved output layers."""
        return score(self.space, self.genomes[which], self.objectives)


def search(
    task: SearchTask,
    objectives: Sequence[str | Values | Objective] = ("error", "params"),
    *,
    space: str = "latents",
    algorithm: Any = "nsga2",
    evaluations: int = 2000,
    population: int = 100,
    constraints: Mapping[str, Any] | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Search networks for a task. All objectives are made small.

    objectives: 1 to 4 names of `objectives.OBJECTIVES`, or functions (networks, task) -> (n,) finite numbers. space:
    one of `spaces.SPACES`. algorithm: one of `algorithms.ALGORITHMS`, or an algorithm of pymoo with a population of its
    own. evaluations: candidates scored, in whole generations, so a little more where they do not divide. population:
    of a generation, at least 2. constraints: such as {"max_params": 100, "max_columns": 4}. seed: from 0 on. folder:
    keeps every generation; a search with the same arguments goes on from there, also to more evaluations. workers:
    threads, which change no byte. progress: called with (candidates scored, in all).

    Raises InputError, one line, before any work: for an argument out of range, an objective that is not known or is
    named twice, a function that answers wrongly, a constraint that no network can keep, a folder of another search,
    and without pymoo.
    """
    wanted = chosen(objectives)
    evaluations, population = whole_number("evaluations", evaluations, 1), whole_number("population", population, 2)
    seed, workers = whole_number("seed", seed, 0), whole_number("workers", workers, 1)
    bounds = bounds_of(constraints or {}, task)
    by_column = any(one.name == "columns" for one in (*wanted, *(bound.objective for bound in bounds)))
    where = Space(task, space, columns=by_column)
    population = min(population, evaluations)
    ask = proposer(algorithm, where, population, seed, n_objectives=len(wanted), n_bounds=len(bounds))
    every = (*wanted, *(bound.objective for bound in bounds if bound.objective not in wanted))
    score(where, where.initial(PROBED, np.random.default_rng(seed)), every)
    said = algorithm if isinstance(algorithm, str) else type(algorithm).__name__
    store = _Store(folder, _settings(where, every, bounds, said, population, seed))

    genomes: list[np.ndarray] = []
    values: list[np.ndarray] = []
    done = 0
    while done < evaluations:
        asked = ask.ask()
        if len(asked) == 0:
            break
        known = store.read(len(genomes), asked, len(every))
        here = score(where, asked, every, workers).values if known is None else known
        if known is None:
            store.write(len(genomes), asked, here)
        ask.tell(here[:, : len(wanted)], _excess(here, every, bounds))
        genomes.append(asked)
        values.append(here)
        done += len(asked)
        if progress is not None:
            progress(min(done, evaluations), evaluations)
    told = np.concatenate(values)
    return Found(
        where,
        wanted,
        np.concatenate(genomes),
        told[:, : len(wanted)],
        np.all(_excess(told, every, bounds) <= 0, axis=1),
        np.repeat(np.arange(len(genomes)), [len(part) for part in genomes]),
    )


def _excess(
    values: Float[np.ndarray, "n objectives"], every: Sequence[Objective], bounds: Sequence[Bound]
) -> Float[np.ndarray, "n bounds"]:
    """How far each candidate is beyond each bound."""
    parts = [values[:, every.index(bound.objective)] - bound.most for bound in bounds]
    return np.stack(parts, 1) if parts else np.zeros((len(values), 0))


def _settings(
    space: Space, every: Sequence[Objective], bounds: Sequence[Bound], algorithm: str, population: int, seed: int
) -> dict[str, Any]:
    return {
        "task": space.task.digest,
        "space": space.kind,
        "columns": space.columns,
        "objectives": [one.name for one in every],
        "constraints": {f"max_{bound.objective.name}": bound.most for bound in bounds},
        "algorithm": algorithm,
        "population": population,
        "seed": seed,
    }


def _array(packed: zipfile.ZipFile, name: str, shape: tuple[int, ...]) -> Float[np.ndarray, "n k"]:
    """Finite numbers of a file of numpy. Raises ValueError for others, and of another shape before they are read."""
    with packed.open(f"{name}.npy") as file:
        np.lib.format.read_magic(file)
        found, by_columns, kind = np.lib.format.read_array_header_1_0(file)
        size = math.prod(shape) * kind.itemsize
        if found != shape or kind != np.float64 or len(data := file.read(size + 1)) != size:
            raise ValueError(f"{name} must be {shape} numbers")
    made = np.frombuffer(data).reshape(shape, order="F" if by_columns else "C")
    if not np.isfinite(made).all():
        raise ValueError(f"{name} must be finite")
    return made


class _Store:
    """Generations in a folder, a file each; without one nothing is kept. Raises InputError for a folder of another
    search."""

    def __init__(self, folder: str | Path | None, settings: dict[str, Any]) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is None:
            return
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder}: is a file; choose another folder for the search")
        path = self.folder / SETTINGS
        if not path.exists():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise InputError(f"{self.folder}: is not empty and holds no search; choose another folder")
            with replacing(path) as part:
                part.write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n")
        try:
            found = json.loads(path.read_text())
        except (ValueError, OSError, RecursionError):
            raise InputError(f"{path}: is damaged; remove the folder and search again") from None
        if other := sorted(
            name for name in settings if not isinstance(found, dict) or found.get(name) != settings[name]
        ):
            raise InputError(f"{self.folder}: holds a search with another {', '.join(other)}; choose another folder")

    def _path(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"generation_{number:05d}.npz"

    def read(
        self, number: int, asked: Float[np.ndarray, "n genes"], objectives: int
    ) -> Float[np.ndarray, "n objectives"] | None:
        """Values of a generation that was kept, or None."""
        if self.folder is None or not self._path(number).exists():
            return None
        try:
            with zipfile.ZipFile(self._path(number)) as packed:
                genomes = _array(packed, "genomes", asked.shape)
                values = _array(packed, "values", (len(asked), objectives))
        except _DAMAGED:
            raise InputError(f"{self._path(number)}: is damaged; remove the folder and search again") from None
        if not (genomes == asked).all():
            raise InputError(
                f"{self._path(number)}: other genomes than this search asks for (another version of pymoo or numpy, or "
                f"another algorithm); choose another folder"
            )
        return values

    def write(
        self, number: int, asked: Float[np.ndarray, "n genes"], values: Float[np.ndarray, "n objectives"]
    ) -> None:
        """Keep a generation, complete or not at all."""
        if self.folder is None:
            return
        with replacing(self._path(number)) as part, part.open("wb") as file:
            np.savez_compressed(file, genomes=asked, values=values)
