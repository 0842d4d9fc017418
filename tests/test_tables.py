import functools
import hashlib
import http.server
import re
import socket
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from netformer.errors import InputError
from netformer.tables.files import read_table
from netformer.tasks.sources import fetch, tasks_from_folder, tasks_from_predecessor_csv
from netformer.tasks.task import TEST, TRAIN, VALID

SAMPLE = Path(__file__).parents[1] / "data" / "sample.csv"


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(rng.normal(size=(12, 3)).round(4), columns=["a", "b", "y"]).assign(
        n=range(12), flag=[True] * 12
    )


def write(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".CSV"])
def test_table_is_read_as_written(frame, tmp_path, suffix):
    x, y = read_table(write(frame, tmp_path / f"t{suffix}"), "y")
    pd.testing.assert_frame_equal(x, frame.drop(columns="y").astype("float64"))
    np.testing.assert_array_equal(y, frame["y"])
    assert y.dtype == np.float64


def test_row_index_of_pandas_is_not_a_feature(frame, tmp_path):
    shuffled = frame.sample(frac=1, random_state=0)
    shuffled.to_csv(tmp_path / "t.csv")
    shuffled.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        x, y = read_table(tmp_path / name, "y")
        assert list(x.columns) == ["a", "b", "n", "flag"]
        np.testing.assert_array_equal(y, shuffled["y"])


def test_byte_order_mark_and_quoted_names(tmp_path):
    (tmp_path / "t.csv").write_bytes('\ufeffa,"b, c",y\n1,2,3\n4,5,6\n'.encode())
    x, _ = read_table(tmp_path / "t.csv", "y")
    assert list(x.columns) == ["a", "b, c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a table needs a header and rows, found an empty file"),
        ("a,y\n", "a table needs at least one row, found only the header"),
        ("a,y\n1,2\nred,3\n", "column 'a' must be numeric, found 'red' in row 2"),
        ("a,y\n1,2\n3,low\n", "column 'y' must be numeric, found 'low' in row 2"),
        ("price,area\n1,2\n3,4\n", "no column 'y'; found price, area"),
        ("Y1,yy,a\n1,2,3\n", "no column 'y'; did you mean 'yy'?"),
        (
            "a,y\n1,2\n3,\n5,\n",
            "target 'y' must be finite, found 2 missing or infinite values, the first in row 2; drop",
        ),
        (
            "a,y\n1,2\ninf,3\n",
            "column 'a' must be finite, found 1 missing or infinite values, the first in row 2; fill",
        ),
        ("a,y\n1,2\n3,2\n", "target 'y' must vary, found 2 in all 2 rows"),
        ("a,y,a\n1,2,3\n", "column names must be unique, found more than once: 'a'"),
        ("y\n1\n2\n", "at least one feature column beside the target 'y', found none"),
        ("a,y\n1,2,3\n4,5,6\n", "line 2 has 3 cells, the header 2; quote cells that hold a comma"),
        ("a,y\n1,2\n4,5,6\n", "line 3 has 3 cells, the header 2; quote cells that hold a comma"),
    ],
)
def test_faulty_table_is_one_clear_line(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_table(path, "y")
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_unreadable_files(frame, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent.csv: no such file"):
        read_table(tmp_path / "absent.csv", "y")
    with pytest.raises(ValueError, match=re.escape(".parquet, .feather, .arrow, .xlsx, got '.dta'")):
        read_table(tmp_path / "t.dta", "y")
    (tmp_path / "t.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(ValueError, match="not a readable parquet table"):
        read_table(tmp_path / "t.parquet", "y")
    (tmp_path / "t.csv").write_bytes(b"a,y\n1,\xff\n")
    with pytest.raises(ValueError, match="the text must be UTF-8, found byte 0xff in line 2"):
        read_table(tmp_path / "t.csv", "y")
    dated = write(frame.assign(day=pd.Timestamp("2020-01-01")), tmp_path / "dated.parquet")
    with pytest.raises(ValueError, match="column 'day' must be numeric, found datetime64"):
        read_table(dated, "y")


def assert_same_tasks(first, second):
    assert [t.task_id for t in first] == [t.task_id for t in second]
    for a, b in zip(first, second, strict=True):
        assert (a.split, a.source, a.family) == (b.split, b.source, b.family)
        np.testing.assert_array_equal(a.X, b.X)
        np.testing.assert_array_equal(a.row_split, b.row_split)


def test_predecessor_layout_loads_row_for_row():
    table, tasks = pd.read_csv(SAMPLE), tasks_from_predecessor_csv(SAMPLE, seed=3)
    assert len(tasks) == table["reg_id"].nunique()
    for task, (reg_id, rows) in zip(tasks, table.groupby("reg_id"), strict=True):
        assert (task.task_id, task.source, task.family) == (f"csv-{reg_id}", "csv", "csv")
        np.testing.assert_array_equal(task.X, rows[[f"x{i}" for i in range(10)]])
        np.testing.assert_array_equal(task.y, rows["y"])
        assert np.bincount(task.row_split).tolist() == [36, 12, 12]  # TRAIN, VALID, TEST = 0, 1, 2
    assert {t.split for t in tasks} == {"train", "valid", "test"}
    assert (TRAIN, VALID, TEST) == (0, 1, 2)
    assert len({t.row_split.tobytes() for t in tasks}) == len(tasks)
    assert_same_tasks(tasks, tasks_from_predecessor_csv(SAMPLE, seed=3))
    assert any(
        (a.row_split != b.row_split).any()
        for a, b in zip(tasks, tasks_from_predecessor_csv(SAMPLE, seed=4), strict=True)
    )


def test_predecessor_tasks_may_be_interleaved_and_narrow(tmp_path):
    table = pd.read_csv(SAMPLE)
    table.loc[table["reg_id"] == 2, ["x8", "x9"]] = np.nan
    table = table[["y", "x9", *[f"x{i}" for i in range(9)], "reg_id"]]
    ordered = tasks_from_predecessor_csv(write(table, tmp_path / "ordered.csv"), seed=0)
    mixed = table.sort_values("reg_id", key=lambda ids: -ids, kind="stable")
    assert_same_tasks(ordered, tasks_from_predecessor_csv(write(mixed, tmp_path / "mixed.csv"), seed=0))
    assert [t.X.shape[1] for t in ordered] == [10, 10, 8, 10, 10, 10]
    np.testing.assert_array_equal(ordered[0].X, table.loc[table["reg_id"] == 0, [f"x{i}" for i in range(10)]])


@pytest.mark.parametrize(("n_tasks", "expected"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (40, (32, 4, 4))])
def test_tasks_are_split_8_to_1_to_1(tmp_path, n_tasks, expected):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(n_tasks * 10, 2)), columns=["x0", "y"])
    path = write(table.assign(reg_id=np.repeat(range(n_tasks), 10)), tmp_path / "t.csv")
    splits = [t.split for t in tasks_from_predecessor_csv(path, seed=0)]
    assert tuple(splits.count(s) for s in ("train", "valid", "test")) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="reg_id"), "no column 'reg_id'; found x0, x1"),
        (lambda t: t.rename(columns={"y": "target"}), "no column 'y'; found x0"),
        (lambda t: t[["y", "reg_id"]], "inputs must be named x0, x1, .., found the columns y, reg_id"),
        (lambda t: t.iloc[:69], "task reg_id=1: a task needs at least 10 rows, found 9"),
        (lambda t: t.iloc[:0], "at least one row, found only the header"),
        (lambda t: t.assign(x3=t["x3"].mask(t.index == 65)), "task reg_id=1 must have finite inputs and y"),
        (
            lambda t: t.assign(y=t["y"].where(t["reg_id"] != 4, 1.5)),
            "task reg_id=4 must have a y that varies, found 1.5",
        ),
        (lambda t: t.assign(reg_id=t["reg_id"].mask(t.index == 7)), "column 'reg_id' must be complete, row 8 has none"),
        (lambda t: t.assign(x0="much"), "column 'x0' must be numeric, found 'much' in row 1"),
    ],
)
def test_faulty_predecessor_file(tmp_path, change, message):
    path = write(change(pd.read_csv(SAMPLE)), tmp_path / "t.csv")
    with pytest.raises(ValueError, match=re.escape(message)):
        tasks_from_predecessor_csv(path, seed=0)


def test_folder_is_a_task_a_file(frame, tmp_path):
    for name in ("c.tsv", "a.csv", "b.parquet"):
        write(frame.assign(y=frame["y"] * ord(name[0])), tmp_path / name)
    (tmp_path / "README.md").write_text("not a table")
    tasks = tasks_from_folder(tmp_path, "y", seed=1)
    assert [t.task_id for t in tasks] == ["a", "b", "c"]
    assert sorted(t.split for t in tasks) == ["test", "train", "valid"]
    for task in tasks:
        np.testing.assert_array_equal(task.X, frame.drop(columns="y").astype("float64"))
        np.testing.assert_allclose(task.y, frame["y"] * ord(task.task_id), rtol=1e-12)
    assert_same_tasks(tasks, tasks_from_folder(tmp_path, "y", seed=1))


def test_faulty_folder(frame, tmp_path):
    with pytest.raises(FileNotFoundError, match="absent: no such folder"):
        tasks_from_folder(tmp_path / "absent", "y", seed=0)
    with pytest.raises(FileNotFoundError, match=r"at least one .csv, .tsv, .parquet file, found none"):
        tasks_from_folder(tmp_path, "y", seed=0)
    write(frame, tmp_path / "a.csv")
    write(frame[:9], tmp_path / "b.csv")
    with pytest.raises(ValueError, match=r"b.csv: a task needs at least 10 rows, found 9"):
        tasks_from_folder(tmp_path, "y", seed=0)
    write(frame, tmp_path / "b.tsv")
    with pytest.raises(ValueError, match=r"names without suffix must differ, found b.csv and b.tsv"):
        tasks_from_folder(tmp_path, "y", seed=0)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local server; `served` lists the paths that were asked for."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    root = tmp_path / "root"
    root.mkdir()
    served: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            served.append(self.path)

        def do_GET(self):
            if self.path == "/cut.csv":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"a,y\n")
            elif self.path == "/moved.csv":
                self.send_response(302)
                self.send_header("Location", "ftp://127.0.0.1/t.csv")
                self.end_headers()
            else:
                super().do_GET()

    handler = functools.partial(Handler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", root, served
        httpd.shutdown()
        thread.join()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_fetch_downloads_once(server, tmp_path):
    url, root, served = server
    data = SAMPLE.read_bytes() * 10
    (root / "t.csv").write_bytes(data)
    path = fetch(f"{url}/t.csv?version=1", sha256(data).upper(), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "t.csv"
    assert path.read_bytes() == data
    assert fetch(f"{url}/t.csv", sha256(data), path.parent) == path
    assert len(served) == 1
    path.write_bytes(b"damaged")
    assert fetch(f"{url}/t.csv", sha256(data), path.parent).read_bytes() == data
    assert [p.name for p in path.parent.iterdir()] == ["t.csv"]


def test_wrong_hash_keeps_nothing_and_replaces_nothing(server, tmp_path):
    url, root, _ = server
    (root / "t.csv").write_bytes(b"a,y\n")
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=f"sha256 must be {'0' * 64}, found"):
        fetch(f"{url}/t.csv", "0" * 64, out)
    assert list(out.iterdir()) == []
    (out / "t.csv").write_bytes(b"older")
    with pytest.raises(ValueError, match=f"found {sha256(b'a,y' + bytes([10]))}"):
        fetch(f"{url}/t.csv", "0" * 64, out)
    assert [(p.name, p.read_bytes()) for p in out.iterdir()] == [("t.csv", b"older")]


def test_failing_servers_leave_no_file(server, tmp_path):
    url, _, _ = server
    out = tmp_path / "out"
    with pytest.raises(ConnectionError, match=r"absent.csv: the server must answer 200, got 404 File not found"):
        fetch(f"{url}/absent.csv", "0" * 64, out)
    with pytest.raises(InputError, match=r"moved.csv: leads to 'ftp://127.0.0.1/t.csv'; give that address"):
        fetch(f"{url}/moved.csv", "0" * 64, out)
    with pytest.raises(ValueError, match="sha256 must be"):
        fetch(f"{url}/cut.csv", "0" * 64, out)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        with pytest.raises(ConnectionError, match=r"cannot be downloaded: .*refused"):
            fetch(f"http://127.0.0.1:{free.getsockname()[1]}/t.csv", "0" * 64, out)
    assert list(out.iterdir()) == []


def test_slow_server_times_out(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("netformer.tasks.sources.TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConnectionError, match="timed out"):
        fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/t.csv", "0" * 64, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/hosts", "scheme must be http or https, got 'file'"),
        ("ftp://example.org/t.csv", "scheme must be http or https, got 'ftp'"),
        ("t.csv", "scheme must be http or https, got 'none'"),
        ("http://example.org/data/", "must end in the name of a file, got the path '/data/'"),
        ("http://example.org/a/..", "must end in the name of a file"),
        ("http://example.org/a/%2e%2e", "must end in the name of a file"),
    ],
)
def test_bad_urls_never_reach_the_net(tmp_path, url, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        fetch(url, "0" * 64, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_hash_argument(tmp_path):
    with pytest.raises(ValueError, match="sha256 must be 64 hexadecimal digits, got 'abc'"):
        fetch("http://example.org/t.csv", "abc", tmp_path)
