"""The same bytes of every artifact whatever the order of hashes, the language, the encoding of files, the time zone,
the clock and the number of processes and threads are, and with a Dask cluster."""

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
days = len({time.time() // 86400 for _ in range(50)})
print(json.dumps([hashes(root), point, encoding, time.timezone, days > 2]))
"""
CLOCK = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long jump(void) { static unsigned n; n = n * 1103515245u + 12345u; return (long)(n % 200000000u) - 100000000; }
int clock_gettime(clockid_t id, struct timespec *t) {
    int failed = syscall(SYS_clock_gettime, id, t);
    if (id == CLOCK_REALTIME && !failed) t->tv_sec += jump();
    return failed;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now; (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec; t->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
"""  # of the wall: three years back or forth at every look
FEW = {"download.sources": ["synthetic"], "zoo.steps": 5}
STAGES = ("download", "zoo", "tokenize", "metafeatures", "train", "sample", "evaluate")
PLAIN = {"PYTHONHASHSEED": "0", "LC_ALL": "C", "TZ": "UTC", "NETFORMER_WORKERS": "1", "OMP_NUM_THREADS": "1"}
PLAIN |= {"SOURCE_DATE_EPOCH": "0"}  # the date of a page
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


def made(root, setting, names, changes=(), python=sys.executable):
    """SHA-256 of every file that these units write, and the decimal point, the encoding and the time zone."""
    command = [python, "-c", RUN, str(root), json.dumps(dict(changes)), *names]
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


@pytest.fixture(scope="module")
def jumping(tmp_path_factory):
    """A clock of the wall that jumps, under everything that a process does."""
    if sys.platform != "linux" or not shutil.which("gcc"):
        return {}, False
    made = tmp_path_factory.mktemp("clock") / "clock.so"
    command = ["gcc", "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", str(made)]
    subprocess.run(command, input=CLOCK, text=True, check=True)
    return {"LD_PRELOAD": str(made)}, True


def test_tasks_networks_and_exports(tmp_path, turkish, jumping):
    names, (language, point), (clock, jumps) = ("download", "generate", "export", "fit_many"), turkish, jumping
    other = language | clock | {"PYTHONHASHSEED": "4242", "TZ": "Asia/Kathmandu", "NETFORMER_WORKERS": "2"}
    plain, *_ = made(tmp_path / "a", PLAIN, names, FEW)
    found, *surroundings = made(tmp_path / "b", PLAIN | other, names, FEW)
    assert surroundings == [point, "utf-8" if point == "," else ASCII, -20700, jumps]
    assert found == plain
    assert len(plain) >= 11


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    hashes, *_ = made(tmp_path_factory.mktemp("plain"), PLAIN, STAGES)
    assert {path.split("/")[0] for path in hashes} >= {"data", "models", "reports"}
    assert len(hashes) >= 40
    return hashes


@pytest.mark.slow
@pytest.mark.parametrize("setting", [*SETTINGS, "another language", "a clock that jumps"])
def test_the_pipeline(tmp_path, plain, turkish, jumping, setting):
    changes = (SETTINGS | {"another language": turkish[0], "a clock that jumps": jumping[0]})[setting]
    found, _, encoding, *_ = made(tmp_path / "root", PLAIN | changes, STAGES)
    assert encoding == (ASCII if "PYTHONUTF8" in changes else "utf-8")
    assert found == plain


PYTHONS = [path for path in os.environ.get("NETFORMER_PYTHONS", "").split(os.pathsep) if path]


@pytest.mark.slow
@pytest.mark.skipif(not PYTHONS, reason="NETFORMER_PYTHONS names no interpreter of an environment of requirements.txt")
@pytest.mark.parametrize("python", PYTHONS)
def test_another_version_of_python(tmp_path, plain, python):
    delivered = ("generate", "export", "fit_many")
    assert made(tmp_path / "root", PLAIN, STAGES, python=python)[0] == plain
    assert made(tmp_path / "a", PLAIN, delivered, python=python)[0] == made(tmp_path / "b", PLAIN, delivered)[0]
