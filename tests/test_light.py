"""A light install: without torch the regressor fits, predicts, is saved and exported as with it; what needs an extra
says so in one line."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, make_friedman1

import netformer
from netformer import InputError, NetFormer, NetFormerRegressor

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("torch", "pyarrow", "pymfe", "onnx", "numba", "pymoo")
MOST_BYTES = 450e6  # of a clean install, every file of every package that comes with it: 398e6 on Linux

BLOCK = f"""
import sys
from importlib.machinery import PathFinder

class Light(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {EXTRAS} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Light
"""
FITTED = """
import json
import numpy as np
from sklearn.datasets import make_friedman1
from netformer import Bundle, NetFormerClassifier, NetFormerRegressor, export, fit_many
import pandas as pd

X, y = make_friedman1(120, n_features=6, random_state=0)
Y = np.column_stack([y, X[:, 0] - y])
X[:, 5] = X[:, 5] > 0.5
one = NetFormerRegressor(random_state=0, n_samples=8).fit(X, y)
two = NetFormerRegressor(random_state=0, n_samples=8).fit(X, Y)
sorts = NetFormerClassifier(random_state=0, n_samples=8).fit(X, np.digitize(y, [10, 18]))
sorts.save(sys.argv[1] + "/sorts")
one.save(sys.argv[1] + "/one")
two.save(sys.argv[1] + "/two")
found = {}
for name, model in (("one", one), ("two", two)):
    again = NetFormerRegressor.load(sys.argv[1] + "/" + name)
    assert np.array_equal(again.predict(X), model.predict(X))
    found[name] = [model.predict(X).tolist(), model.predict_interval(X).tolist(), model.networks_.predict(X).tolist()]
    model.explain(X[:3])
    for format in ("json", "c", "html", "numpy", "sklearn", "torch"):
        suffix = format if format in ("json", "c", "html") else "py"
        export(model, "wide", f"{sys.argv[1]}/{name}_{format}.{suffix}", format)
table = pd.DataFrame(X).assign(store=np.repeat(["a", "b", "c"], 40)).set_axis([*"uvwxyz", "store"], axis=1)
found["smallest"] = NetFormerRegressor(max_loss=0.01).fit(X, y).predict(X).tolist()
again = NetFormerClassifier.load(sys.argv[1] + "/sorts")
assert np.array_equal(again.predict_proba(X), sorts.predict_proba(X))
found["sorts"] = sorts.predict_proba(X).tolist()
export(sorts, "wide", sys.argv[1] + "/sorts.c", "c")
found["many"] = [fit_many(table, y, by="store", random_state=0, n_samples=4).predict(table).tolist()]
print(json.dumps(found))
"""


def python(
    code: str, *arguments: object, executable: str = sys.executable, cwd: Path = ROOT
) -> subprocess.CompletedProcess:
    command = [executable, "-W", "error", "-c", code, *map(str, arguments)]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=600)


def command(*arguments: object) -> subprocess.CompletedProcess:
    """A command where no extra is installed."""
    return python(f"{BLOCK}\nfrom netformer.cli.app import app\napp(sys.argv[1:])", *arguments)


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    path = tmp_path_factory.mktemp("light") / "table.csv"
    X.assign(y=y, z=y + X["bmi"])[:150].to_csv(path, index=False)
    return path


def test_the_regressor_is_the_same_without_torch(tmp_path):
    """One target and several, classes, groups: fit, predict, intervals, explain, save, load, export."""
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    with_torch = python(f"import sys, torch\n{FITTED}", tmp_path / "with")
    without = python(f"{BLOCK}\n{FITTED}\nassert 'torch' not in sys.modules", tmp_path / "without")
    assert without.returncode == 0, without.stderr
    assert json.loads(without.stdout) == json.loads(with_torch.stdout)
    written = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("with", "without")]
    assert written[0] == written[1]
    assert len(written[0]) == 2 * 8 + 3
    for file in (tmp_path / "with").glob("*.*"):
        assert file.read_bytes() == (tmp_path / "without" / file.name).read_bytes()


@pytest.mark.parametrize("target", ["y", "y,z"])
def test_commands_run_without_torch(csv, tmp_path, target):
    nets, page = tmp_path / "nets", tmp_path / "page.html"
    commands: list[tuple[object, ...]] = [
        ("generate", csv, "--target", target, "--n", 4, "--no-score", "--out", nets, "--report", page),
        ("predict", nets, csv, "--out", tmp_path / "p.csv", "--interval", 0.9),
        ("inspect", nets, "--which", 0, "--draw", tmp_path / "net.svg"),
        ("export", nets, "--format", "c", "--format", "html", "--format", "torch", "--out", tmp_path / "files"),
        ("info",),
    ]
    if target == "y":
        commands.append(("evaluate", csv, "--target", target, "--n", 4, "--beside", "ridge"))
    for one in commands:
        done = command(*one)
        assert done.returncode == 0, done.stderr
    expected = NetFormerRegressor.load(nets).predict(pd.read_csv(csv).drop(columns=target.split(",")))
    answers = pd.read_csv(tmp_path / "p.csv")[target.split(",")].to_numpy()
    np.testing.assert_allclose(answers, expected.reshape(answers.shape), rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("generate", "{csv}", "--target", "y", "--refine", 3), "--refine needs torch: pip install 'netformer[torch]'"),
        (("evaluate", "{csv}", "--target", "y", "--refine", 3), "--refine needs torch: pip install 'netformer[torch]'"),
        (("search", "{csv}", "--target", "y"), "a search needs torch: pip install 'netformer[torch]'"),
        (
            ("predict", "{csv}", "{csv}", "--out", "{out}/p.parquet"),
            "{out}/p.parquet needs pyarrow: pip install 'netformer[parquet]'",
        ),
    ],
)
def test_a_command_that_needs_an_extra_says_so_in_one_line(csv, tmp_path, arguments, said):
    done = command(*(str(one).format(csv=csv, out=tmp_path) for one in arguments))
    assert done.returncode == 2
    assert done.stderr == f"netformer: {said.format(out=tmp_path)}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_a_table_of_arrow_needs_pyarrow(csv, tmp_path, suffix):
    path = tmp_path / f"table.{suffix}"
    getattr(pd.read_csv(csv), f"to_{suffix}")(path)
    done = command("generate", path, "--target", "y")
    assert done.returncode == 2
    assert (
        done.stderr == f"netformer: {path}: .{suffix} needs pyarrow; pip install pyarrow, or save the table as .csv\n"
    )


def test_what_needs_torch_says_so_in_one_line(monkeypatch, tmp_path):
    X, y = make_friedman1(40, n_features=5, random_state=0)
    fitted = NetFormerRegressor(n_samples=2, random_state=0).fit(X, y)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "netformer.networks.tokens", raising=False)
    uses = {
        "refine_steps": lambda: NetFormerRegressor(refine_steps=2).fit(X, y),
        "to_torch": lambda: fitted.network_.to_torch("wide"),
        "netformer.tokenize": lambda: netformer.tokenize,
        "a model with gradients": NetFormer.load,
        "a network of tensors": lambda: fitted.networks_.networks.to_torch(0),
    }
    for what, use in uses.items():
        with pytest.raises(InputError, match=rf"^{what} needs torch: pip install 'netformer\[torch\]'$"):
            use()


def test_a_model_in_arrays_is_not_refined():
    X, y = make_friedman1(40, n_features=5, random_state=0)
    with pytest.raises(InputError, match=r"^refine_steps needs the model in torch; load it with NetFormer.load, not"):
        NetFormerRegressor(refine_steps=2, model=NetFormer.load_arrays()).fit(X, y)
    with pytest.raises(InputError, match=r"^refine_steps needs the model in torch; load it with NetFormer.load, not"):
        NetFormer.load_arrays().generate(X, y, refine_steps=2)


def test_meta_features_need_pymfe(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymfe", None)
    with pytest.raises(InputError, match=r"^get_meta_features needs pymfe: pip install 'netformer\[metafeatures\]'$"):
        netformer.get_meta_features(np.eye(9), np.arange(9.0))


def test_arrays_and_torch_write_networks_that_answer_alike():
    """Root mean squares of differences over the spread of the target. Both round float32, as far from float64 each."""
    off, in_torch = [], NetFormer.load()
    for seed in range(6):
        X, y = make_friedman1(80 + 60 * seed, n_features=5 + seed, random_state=seed)
        one, other = (NetFormerRegressor(random_state=0, model=m).fit(X, y) for m in (None, in_torch))
        off.append(np.sqrt(np.square(one.predict(X) - other.predict(X)).mean()) / y.std())
    assert np.median(off) < 1e-5
    assert max(off) < 1e-4


def test_no_command_imports_torch(csv, tmp_path):
    code = (
        "import sys\nfrom netformer.cli.app import app\napp(sys.argv[1:], standalone_mode=False)\nprint(*sys.modules)"
    )
    loaded = {}
    for name, arguments in {
        "generate": ("generate", csv, "--target", "y", "--n", 2, "--no-score", "--out", tmp_path / "nets"),
        "predict": ("predict", tmp_path / "nets", csv, "--out", tmp_path / "p.csv"),
    }.items():
        done = python(code, *arguments)
        assert done.returncode == 0, done.stderr
        loaded[name] = set(done.stdout.split())
    assert "torch" not in loaded["generate"] | loaded["predict"]
    assert not {"sklearn", "scipy.stats", "torch"} & loaded["predict"]


@pytest.mark.slow
def test_a_wheel_in_a_clean_environment_generates_and_predicts(csv, tmp_path):
    """Without torch; what is installed is small."""
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("netformer-*.whl")
    venv.create(tmp_path / "clean", with_pip=True)
    bin = tmp_path / "clean" / "bin"
    ours = {path.name.split("-")[0] for path in (tmp_path / "clean").glob("lib/*/site-packages/*")}
    subprocess.run([bin / "pip", "install", "-q", wheel], check=True, timeout=900)
    (packages,) = (tmp_path / "clean").glob("lib/*/site-packages")
    new = [path for path in packages.iterdir() if path.name.split("-")[0] not in ours]
    size = sum(
        file.stat().st_size for path in new for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()
    )
    assert not [name for name in EXTRAS if (packages / name).exists()]
    assert size < MOST_BYTES, f"{size / 1e6:.0f} MB"
    for one in (
        ("generate", csv, "--target", "y", "--n", 4, "--out", tmp_path / "nets"),
        ("predict", tmp_path / "nets", csv, "--out", tmp_path / "p.csv"),
    ):
        done = subprocess.run([bin / "netformer", *map(str, one)], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert np.corrcoef(pd.read_csv(tmp_path / "p.csv")["y"], pd.read_csv(csv)["y"])[0, 1] > 0.5
    code = "import time; t = time.perf_counter(); import netformer; print(time.perf_counter() - t)"
    assert float(python(code, executable=str(bin / "python"), cwd=tmp_path).stdout) < 0.5
