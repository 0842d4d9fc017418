"""Small files that stand for huge tables: refused in one line, in little time and memory, before the table is made."""

import gzip
import http.server
import io
import json
import resource
import threading
import time
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import torch
from hostile_files import write_artifacts
from safetensors.torch import save_file

from netformer.artifacts import read_parquet, write_parquet
from netformer.errors import InputError
from netformer.model.store import load_model
from netformer.tables.encodings import MOST_BYTES, MOST_CELLS
from netformer.tables.files import read_raw
from netformer.tasks import sources
from netformer.tasks.sources import fetch
from netformer.zoo.load import load_tokens, load_zoo

MEMORY = 700 << 20  # bytes beside what the process has: what may be unpacked, and what reading it takes
SECONDS = 8  # of CPU, on a loaded machine; none takes more than 2 alone


def zipped(sheet, shared=""):
    """A workbook of one sheet with this XML."""
    frame, made, out = pd.DataFrame({"a": [1], "y": [2]}), io.BytesIO(), io.BytesIO()
    frame.to_excel(made, index=False)
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, sheet if "sheet1.xml" in name else old.read(name))
        new.writestr("xl/more.bin", shared)
    return out.getvalue()


def sheet_to(cell):
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    rows = f'<row r="1"><c r="A1"><v>1</v></c></row><row r="{cell.lstrip("XFD")}"><c r="{cell}"><v>1</v></c></row>'
    return f'<?xml version="1.0"?><worksheet {space}><sheetData>{rows}</sheetData></worksheet>'


def parquet_of(table, **options):
    made = io.BytesIO()
    pq.write_table(table, made, compression="zstd", **options)
    return made.getvalue()


def feather_of(table):
    made = io.BytesIO()
    pyarrow.feather.write_feather(table, made, compression="zstd")
    return made.getvalue()


MANY = MOST_CELLS // 1000 + 1
BOMBS = {
    "rows shorter than the header.csv": lambda: ",".join(f"c{i}" for i in range(20_000)).encode() + b"\n1" * 60_000,
    "zeros.csv.gz": lambda: gzip.compress(b"a,y\n" + b"0,1\n" * (MOST_BYTES // 4), 1),
    "names of their own.json": lambda: json.dumps([{f"k{i}": i} for i in range(10_000)]).encode(),
    "numbers of their own.json": lambda: json.dumps({f"c{i}": {str(i): 1} for i in range(10_000)}).encode(),
    "names of their own.jsonl": lambda: b"\n".join(b'{"k%d": 1}' % i for i in range(10_000)),
    "nested.json": lambda: b"[" * 100_000,
    "a cell far out.xlsx": lambda: zipped(sheet_to("XFD1048576")),
    "much to unpack.xlsx": lambda: zipped(sheet_to("B2"), "0" * (MOST_BYTES + 1)),
    "repeated numbers.parquet": lambda: parquet_of(pa.table({f"c{i}": np.zeros(MANY) for i in range(1000)})),
    "repeated text.parquet": lambda: parquet_of(pa.table({"a": pa.array(["x" * 100_000]).take(pa.array([0] * 5000))})),
    "gaps.arrow": lambda: feather_of(pa.table({"a": pa.nulls(MOST_CELLS + 1)})),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_of_a_huge_table(tmp_path, name):
    path, data = tmp_path / name, BOMBS[name]()
    path.write_bytes(data)
    assert len(data) < 4 << 20
    del data
    before, start = peak(), time.process_time()
    with pytest.raises(InputError, match=r"must have at most \d+ cells|must be at most 256 MB|not a readable") as error:
        read_raw(path)
    assert time.process_time() - start < SECONDS
    assert peak() - before < MEMORY
    assert "\n" not in str(error.value)


def peak():
    """Bytes that this process had at most."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_table_that_fills_its_file_is_read_whatever_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr("netformer.tables.encodings.MOST_CELLS", 10)
    monkeypatch.setattr("netformer.tables.delimited.MOST_CELLS", 10)
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 100)
    (tmp_path / "short.csv").write_text("a,b,c,d,e,f,g,h\n" + "1\n" * 100)
    assert read_raw(tmp_path / "t.csv").frame.shape == (100, 2)
    with pytest.raises(InputError, match="a table must have at most 216 cells, found 102 rows of 8 columns"):
        read_raw(tmp_path / "short.csv")


@pytest.fixture
def root(tmp_path):
    write_artifacts(tmp_path / "root")
    return tmp_path / "root"


def test_tokens_of_gigantic_networks(root):
    path = root / "data" / "tokens.parquet"
    table = read_parquet(path)
    for name, value in (("n_inputs", 2**31 - 1), ("widths", 32767)):
        at, cells = table.column_names.index(name), table[name].to_pylist()
        changed = [value if name == "n_inputs" else [value] * len(cells[0]), *cells[1:]]
        write_parquet(table.set_column(at, name, pa.array(changed, table[name].type)), path)
        before = peak()
        with pytest.raises(InputError, match=r"a stack of 3 networks in Layout\(.*\) has \d+ slots for \d+ edges"):
            _ = load_tokens(path).networks
        assert peak() - before < MEMORY


def test_a_zoo_whose_masks_are_of_many_layouts_is_told_at_once(root):
    path = root / "data" / "zoo.parquet"
    table, size = read_parquet(path), 15_120  # of 80 divisors
    for name, value in (("mask", [True] * size), ("weights", [0.0] * size)):
        at = table.column_names.index(name)
        table = table.set_column(at, name, pa.array([value] * 3, table[name].type))
    write_parquet(table, path)
    start = time.process_time()
    with pytest.raises(InputError, match=r"masks of 15120 slots fit 0 layouts"):
        load_zoo(path)
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("name", ["d_model", "d_row", "d_writer", "max_width", "n_encoder_layers", "n_metafeatures"])
def test_a_model_of_gigantic_shapes(root, name):
    folder = root / "models" / "netformer"
    config = json.loads((folder / "config.json").read_text())
    config["model"][name] = 60_000
    (folder / "config.json").write_text(json.dumps(config))
    before = peak()
    with pytest.raises(InputError, match=r"config.json|model.safetensors: tensors must be"):
        load_model(folder)
    assert peak() - before < MEMORY


def test_weights_that_were_changed_are_told_by_their_sha256(root):
    folder = root / "models" / "netformer"
    model, _ = load_model(folder)
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    tensors["scale"] += 1
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"model.safetensors: its sha256 must be that of model.sha256, found"):
        load_model(folder)
    (folder / "model.sha256").unlink()  # of a version that wrote none
    assert torch.equal(load_model(folder)[0].scale, tensors["scale"])


@pytest.fixture
def endless(monkeypatch):
    """A server whose file has no end, or says it is larger than it may be."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(sources, "MOST_BYTES", 1 << 20)
    sent = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            if self.path == "/said.csv":
                self.send_header("Content-Length", str(1 << 40))
            self.end_headers()
            try:
                while len(sent) < 1000:
                    self.wfile.write(bytes(1 << 16))
                    sent.append(1 << 16)
            except OSError:
                pass

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", sent
        server.shutdown()


@pytest.mark.parametrize("name", ["endless.csv", "said.csv"])
def test_a_download_without_end(endless, tmp_path, name):
    url, sent = endless
    with pytest.raises(InputError, match=r"a download must be at most 1048576 bytes, got more"):
        fetch(f"{url}/{name}", "0" * 64, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert len(sent) < 200  # what both ends of a connection buffer


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "scheme must be http or https, got 'file'"),
        ("ftp://127.0.0.1/t.csv", "scheme must be http or https, got 'ftp'"),
        ("data:text/csv,a", "scheme must be http or https"),
        ("http://[1/t.csv", "is not a URL"),
        ("http://127.0.0.1/..", "must end in the name of a file"),
        ("http://127.0.0.1/a%2f..%2f..", "must end in the name of a file"),
        ("http://127.0.0.1/a%00b.csv", "must end in the name of a file"),
        ("http://127.0.0.1/" + "a" * 300, "must end in the name of a file"),
        ("http://127.0.0.1/t.csv\r\nHost: other", "must be printable ASCII"),
        ("http://127.0.0.1/größe.csv", "must be printable ASCII"),
    ],
)
def test_an_address_that_is_none(tmp_path, url, message):
    with pytest.raises(InputError, match=message):
        fetch(url, "0" * 64, tmp_path / "out")
    assert not (tmp_path / "out").exists()
