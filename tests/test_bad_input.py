"""Bad input stops a stage with exit code 2 and one line that says what, where, what is allowed and what was found.

What an earlier run left stays as it is, and no half-written file appears.
"""

import http.server
import json
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from ruamel.yaml import YAML

from netformer.artifacts import networks_table, read_parquet, write_parquet, write_tasks
from netformer.model.store import load_model, save_model
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Layout, draw_specs
from netformer.networks.token_tables import tokenize_networks
from netformer.tasks.metafeatures import NAMES, MetaFeatureTransform
from netformer.tasks.stream import synthetic_tasks
from netformer.zoo.build import initialize
from stages import run

ROOT = Path(__file__).resolve().parents[1]
GOOD = "x0,x1,y,reg_id\n" + "".join(f"{i},{i * i % 7},{i % 5},0\n" for i in range(12))
OLD = b"an earlier artifact"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tasks.parquet").write_bytes(OLD)
    (tmp_path / "data" / "sample.csv").write_text(GOOD)
    change(tmp_path, "download", sources=["csv"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/table.csv" else 404)
            self.end_headers()
            self.wfile.write(GOOD.encode())

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def change(root: Path, section: str, **values: object) -> None:
    yaml, path = YAML(), root / "params.yaml"
    params = yaml.load((path if path.exists() else ROOT / "params.yaml").read_text())
    params[section].update(values)
    with path.open("w") as file:
        yaml.dump(params, file)


def refusal(stage: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The line a stage leaves on stderr."""
    with pytest.raises(SystemExit) as stopped:
        run(import_module(f"stages.{stage}").main)
    assert stopped.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1, line
    assert line.startswith(f"stages.{stage}: ")
    return line


def assert_untouched(root: Path) -> None:
    assert (root / "data" / "tasks.parquet").read_bytes() == OLD
    assert not [p for p in root.rglob("*") if p.suffix in (".tmp", ".part")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "data/sample.csv: no such file"),
        ("", "data/sample.csv: a table needs a header and rows, found an empty file"),
        ("x0,y,reg_id\n", "data/sample.csv: a table needs at least one row, found only the header"),
        (GOOD.replace("3,2,3", "3,two,3"), "column 'x1' must be numeric, found 'two' in row 4"),
        (GOOD.replace("3,2,3", "3,2,"), "task reg_id=0 must have finite inputs and y, found missing"),
        (GOOD[:15] + "".join(f"{i},1,2,7\n" for i in range(12)), "task reg_id=7 must have a y that varies, found 2"),
        ("\n".join(GOOD.split("\n")[:6]), "task reg_id=0: a task needs at least 10 rows, found 5"),
        (GOOD.replace("reg_id", "task"), "no column 'reg_id'; found x0, x1, y, task"),
    ],
)
def test_a_table_that_cannot_be_used(
    root: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    path = root / "data" / "sample.csv"
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert message in refusal("download", capsys)
    assert_untouched(root)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_rows": "many"}, "download.min_rows must be a valid integer"),
        ({"sources": ["hub"]}, "download.sources"),
        ({"rows": 5}, "download.rows Extra inputs are not permitted, got 5"),
    ],
)
def test_a_wrong_parameter(root: Path, capsys: pytest.CaptureFixture[str], values: dict, message: str) -> None:
    change(root, "download", **values)
    assert message in refusal("download", capsys)
    assert_untouched(root)


@pytest.mark.parametrize(
    ("path", "message"),
    [("/table.csv", "sha256 must be 000000"), ("/absent.csv", "absent.csv: the server must answer 200, got 404")],
)
def test_a_download_that_fails(
    root: Path, url: str, capsys: pytest.CaptureFixture[str], path: str, message: str
) -> None:
    change(root, "download", sources=["url"], url=url + path, sha256="0" * 64)
    assert message in refusal("download", capsys)
    assert_untouched(root)
    assert not list((root / "build").rglob("*.csv"))


def test_an_artifact_that_is_no_parquet_file(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "data/tasks.parquet is not a readable Parquet file" in refusal("zoo", capsys)
    assert_untouched(root)
    assert not (root / "data" / "zoo.parquet").exists()


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [("parent", 40, "parent 40"), ("vertex", 40, "vertex 40"), ("parent", None, "parent")],
    ids=["dangling parent", "dangling vertex", "cycle"],
)
def test_tokens_that_are_no_network(
    root: Path, capsys: pytest.CaptureFixture[str], column: str, value: int | None, found: str
) -> None:
    tasks = synthetic_tasks(2, seed=0, stream="train", split="train", max_features=10, min_rows=40, max_rows=50)
    write_tasks(tasks, root / "data" / "tasks.parquet")
    features = torch.tensor([task.X.shape[1] for task in tasks])
    specs = draw_specs(features, layout=Layout(), generator=torch.Generator().manual_seed(0))
    networks, ids = initialize(specs, torch.arange(2)), [task.task_id for task in tasks]
    write_parquet(networks_table(networks, ids, r2=torch.zeros(2, 3), arm=["zoo"] * 2), root / "data" / "zoo.parquet")
    tokens = tokenize_networks(networks, torch.ones(specs.mask.shape[:2])).add_column(0, "task_id", pa.array(ids))
    lists = tokens[column].to_pylist()
    # a vertex that is its own parent is the shortest cycle
    lists[1][5] = tokens["vertex"].to_pylist()[1][5] if value is None else value
    at = tokens.column_names.index(column)
    write_parquet(tokens.set_column(at, column, pa.array(lists, tokens[column].type)), root / "data" / "tokens.parquet")
    frame = {"task_id": ids} | {name: [0.0, 1.0] for name in NAMES}
    write_parquet(pa.table(frame), root / "data" / "metafeatures.parquet")
    line = refusal("train", capsys)
    assert "an edge must run to the next layer or from an input to an output" in line
    assert found in line
    assert "in row 1" in line
    assert not (root / "models").exists()
    assert len(read_parquet(root / "data" / "tokens.parquet")) == 2


def test_a_model_of_another_version(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with torch.random.fork_rng():
        model = TransformerVAE.from_arguments(
            max_features=10,
            max_hidden_layers=3,
            max_width=8,
            n_metafeatures=len(NAMES),
            d_model=8,
            n_heads=2,
            d_vertex=2,
        )
    folder = root / "models" / "netformer"
    save_model(model, MetaFeatureTransform.fit(torch.randn(4, len(NAMES)).double().numpy()), folder)
    load_model(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 99}))
    assert "models/netformer: format must be" in (line := refusal("sample", capsys))
    assert "found 99; retrain the model" in line
    assert not (root / "data" / "samples.parquet").exists()
    (folder / "model.safetensors").unlink()
    assert "models/netformer/model.safetensors does not exist" in refusal("evaluate", capsys)
