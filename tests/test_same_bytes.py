"""The same bytes of every artifact whatever the order of hashes, the language, the encoding of files, the time zone and
the number of processes and threads are, and with a Dask cluster."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUN = """
import json, locale, shutil, sys, time, warnings
from pathlib import Path
sys.path[:0] = ["tests", "."]
from kills import hashes, unit
from netformer.workers import one_thread
from stages.roots import write_params
from tiny import PARAMS, TINY
warnings.simplefilter("ignore")
locale.setlocale(locale.LC_ALL, "")
root = Path(sys.argv[1])
write_params(PARAMS, root, TINY | json.loads(sys.argv[2]))
shutil.copy("data/sample.csv", root / "data")
with one_thread():  # as stages.run
    for name in sys.argv[3:]:
        unit(name)(root)
point, encoding = locale.localeconv()["decimal_point"], locale.getpreferredencoding(False).lower()
print(json.dumps([hashes(root), point, encoding, time.timezone]))
"""
FEW = {"download.sources": ["synthetic"], "zoo.steps": 5}
STAGES = ("download", "zoo", "tokenize", "metafeatures", "train", "sample", "evaluate")
PLAIN = {"PYTHONHASHSEED": "0", "LC_ALL": "C", "TZ": "UTC", "NETFORMER_WORKERS": "1", "OMP_NUM_THREADS": "1"}
NOT_UTF_8 = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # the locale C then means files in ASCII
ASCII = "ansi_x3.4-1968"
SETTINGS = {
    "two processes and threads": {"NETFORMER_WORKERS": "2", "OMP_NUM_THREADS": "2"},
    "four processes and threads": {"NETFORMER_WORKERS": "4", "OMP_NUM_THREADS": "4"},
    "a Dask cluster": {"NETFORMER_WORKERS": "2", "NETFORMER_DASK": "local"},
    "another order of hashes": {"PYTHONHASHSEED": "4242"},
    "another time zone": {"TZ": "Asia/Kathmandu"},
    "files in ASCII": NOT_UTF_8,
}


def made(root, setting, names, changes=()):
    """SHA-256 of every file that these units write, and the decimal point, the encoding and the time zone."""
    command = [sys.executable, "-c", RUN, str(root), json.dumps(dict(changes)), *names]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON", "OMP"))}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=own | setting, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def turkish(tmp_path_factory):
    """The locale of a language with a decimal comma and an i without a dot, made where it can be, else ASCII."""
    made = shutil.which("localedef") and Path("/usr/share/i18n/locales/tr_TR").exists()
    if not made:
        return {"LC_ALL": "C"} | NOT_UTF_8, "."
    folder = tmp_path_factory.mktemp("locales")
    subprocess.run(["localedef", "-i", "tr_TR", "-f", "UTF-8", str(folder / "tr_TR.UTF-8")], check=True)
    return {"LC_ALL": "tr_TR.UTF-8", "LOCPATH": str(folder)}, ","


def test_tasks_networks_and_exports(tmp_path, turkish):
    names, (language, point) = ("download", "generate", "export", "fit_many"), turkish
    other = language | {"PYTHONHASHSEED": "4242", "TZ": "Asia/Kathmandu", "NETFORMER_WORKERS": "2"}
    plain, *_ = made(tmp_path / "a", PLAIN, names, FEW)
    found, *surroundings = made(tmp_path / "b", PLAIN | other, names, FEW)
    assert surroundings == [point, "utf-8" if point == "," else ASCII, -20700]
    assert found == plain
    assert len(plain) >= 11


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    hashes, *_ = made(tmp_path_factory.mktemp("plain"), PLAIN, STAGES)
    assert {path.split("/")[0] for path in hashes} >= {"data", "models", "reports"}
    assert len(hashes) >= 40
    return hashes


@pytest.mark.slow
@pytest.mark.parametrize("setting", [*SETTINGS, "another language"])
def test_the_pipeline(tmp_path, plain, turkish, setting):
    changes = SETTINGS.get(setting, turkish[0])
    found, _, encoding, _ = made(tmp_path / "root", PLAIN | changes, STAGES)
    assert encoding == (ASCII if "PYTHONUTF8" in changes else "utf-8")
    assert found == plain
