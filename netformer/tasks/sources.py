"""Sources: tasks from files, folders and web addresses."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import re
import urllib.request
from pathlib import Path

import numpy as np
from jaxtyping import Float

from netformer.errors import InputError
from netformer.files import replacing
from netformer.tables.files import MIN_ROWS, read_numeric, read_raw, read_table, require_column
from netformer.tasks.task import Task, split_rows

TIMEOUT = 30.0  # seconds
MOST_BYTES = 1 << 30  # of a download
_LONGEST_NAME = 200  # bytes of a file's name
TABLES = (".csv", ".tsv", ".parquet")  # read in a folder


def tasks_from_predecessor_csv(path: str | Path, seed: int) -> list[Task]:
    """Tasks of one file with columns `x0, .., xk, y, reg_id`: one task per reg_id, in ascending order of it.

    Other columns are ignored. Inputs that are missing in all rows of a task are not part of it, so narrow and wide
    tasks share a file. Tasks are split as `_split_tasks` says.

    Raises InputError naming the column, or the task and its flaw.
    """
    path = Path(path)
    table = read_raw(path).frame
    for name in ("y", "reg_id"):
        require_column(table, name, path)
    inputs = sorted((c for c in table.columns if re.fullmatch(r"x\d+", c)), key=lambda c: int(c[1:]))
    if not inputs:
        raise InputError(f"{path}: inputs must be named x0, x1, .., found the columns {', '.join(table.columns)}")
    if table["reg_id"].isna().any():
        raise InputError(
            f"{path}: column 'reg_id' must be complete, row {table['reg_id'].isna().argmax() + 1} has none"
        )
    table = table.assign(**{name: read_numeric(table[name], path) for name in [*inputs, "y"]})
    groups = list(table.groupby("reg_id", sort=True))
    if not groups:
        raise InputError(f"{path}: a table needs at least one row, found only the header")
    tasks = []
    for index, ((reg_id, group), split) in enumerate(zip(groups, _split_tasks(len(groups), seed), strict=True)):
        x = group[inputs].dropna(axis=1, how="all").to_numpy(dtype=np.float64)
        y = group["y"].to_numpy(dtype=np.float64)
        where = f"{path}: task reg_id={reg_id}"
        if not x.shape[1] or not np.isfinite(x).all() or not np.isfinite(y).all():
            raise InputError(f"{where} must have finite inputs and y, found missing or infinite values")
        if (y == y[0]).all():
            raise InputError(f"{where} must have a y that varies, found {y[0]:g} in all {len(y)} rows")
        tasks.append(_task(f"csv-{reg_id}", "csv", split, x, y, seed, index, where))
    return tasks


def tasks_from_folder(path: str | Path, target: str, seed: int) -> list[Task]:
    """Every CSV, TSV and Parquet file of a folder as one task, in order of name; task_id is the name without suffix.

    Other files and sub-folders are ignored. Tasks are split as `_split_tasks` says.

    Raises FileNotFoundError for a missing or empty folder, InputError for two files of one name or a faulty table.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in TABLES and f.is_file())
    if not files:
        raise FileNotFoundError(f"{path}: a folder of tables needs at least one {', '.join(TABLES)} file, found none")
    for first, second in itertools.pairwise(files):
        if first.stem == second.stem:
            raise InputError(f"{path}: names without suffix must differ, found {first.name} and {second.name}")
    tasks = []
    for index, (file, split) in enumerate(zip(files, _split_tasks(len(files), seed), strict=True)):
        x, y = read_table(file, target)
        tasks.append(_task(file.stem, "folder", split, x.to_numpy(), y, seed, index, str(file)))
    return tasks


def fetch(url: str, sha256: str, directory: str | Path) -> Path:
    """Download a file over http or https into `directory` under the last part of the URL's path.

    Nothing is seen under that name before its SHA-256 is right; a file that is there with the right one is not asked
    for again. A server has TIMEOUT seconds to answer, and for every pause between bytes.

    Raises InputError for the URL, its scheme, an address that leads to another one, more than MOST_BYTES or a wrong
    hash, ConnectionError when the server cannot be reached or answers with an error.
    """
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise InputError(f"{url}: is not a URL: {error}") from None
    if not url.isascii() or not url.isprintable() or " " in url:
        raise InputError(f"{url!r}: a URL must be printable ASCII; write other characters as %XX")
    if parts.scheme not in ("http", "https"):
        raise InputError(f"{url}: scheme must be http or https, got {parts.scheme or 'none'!r}")
    name = urllib.parse.unquote(parts.path).rpartition("/")[2]
    if name in ("", ".", "..") or not name.isprintable() or len(name.encode()) > _LONGEST_NAME:
        raise InputError(f"{url}: a URL must end in the name of a file, got the path {parts.path!r}")
    expected = sha256.lower()
    if not re.fullmatch("[0-9a-f]{64}", expected):
        raise InputError(f"sha256 must be 64 hexadecimal digits, got {sha256!r}")
    path = Path(directory) / name
    if path.is_file():
        with path.open("rb") as present:
            if hashlib.file_digest(present, "sha256").hexdigest() == expected:
                return path
    with replacing(path) as temporary:
        found = _download(url, temporary)
        if found != expected:
            raise InputError(f"{url}: sha256 must be {expected}, found {found}; the file was not kept")
    return path


def _download(url: str, path: Path) -> str:
    """Stream to `path`; the SHA-256 of what came."""
    # Named one by one: the default opener follows redirects, to ftp as well.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    digest, size = hashlib.sha256(), 0
    try:
        with opener.open(url, timeout=TIMEOUT) as response, path.open("wb") as file:
            declared = response.headers.get("Content-Length", "")
            while chunk := response.read(1 << 16):
                size += len(chunk)
                if max(size, int(declared) if declared.isdecimal() else 0) > MOST_BYTES:
                    raise InputError(
                        f"{url}: a download must be at most {MOST_BYTES} bytes, got more; fetch it yourself"
                    )
                digest.update(chunk)
                file.write(chunk)
    except urllib.error.HTTPError as error:
        with error:
            to = error.headers.get("Location") if 300 <= error.code < 400 else None
            if to is not None:
                raise InputError(f"{url}: leads to {to!r}; give that address, if you trust it") from None
            raise ConnectionError(f"{url}: the server must answer 200, got {error.code} {error.reason}") from None
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        raise ConnectionError(f"{url}: cannot be downloaded: {reason}") from None
    return digest.hexdigest()


def _split_tasks(n_tasks: int, seed: int) -> list[str]:
    """train, valid or test for each task by one seeded permutation: a tenth valid, a tenth test (rounded, at least one
    each), the rest train. Two tasks are train and test, one is train."""
    share = max(1, round(0.1 * n_tasks))
    n_valid, n_test = (share if n_tasks >= 3 else 0), (share if n_tasks >= 2 else 0)
    names = ["valid"] * n_valid + ["test"] * n_test + ["train"] * (n_tasks - n_valid - n_test)
    order = np.random.default_rng(np.random.SeedSequence([seed, n_tasks])).permutation(n_tasks)
    return [names[i] for i in order]


def _task(
    task_id: str,
    source: str,
    split: str,
    x: Float[np.ndarray, "rows features"],
    y: Float[np.ndarray, " rows"],
    seed: int,
    index: int,
    where: str,
) -> Task:
    if len(y) < MIN_ROWS:
        raise InputError(f"{where}: a task needs at least {MIN_ROWS} rows, found {len(y)}")
    # three words, so that no row split shares its stream with the split of tasks
    rng = np.random.default_rng(np.random.SeedSequence([seed, index, len(y)]))
    return Task(task_id, source, source, split, x, y, split_rows(len(y), rng))
