"""DVC runs the pipeline of a copy of the repository: once, with the same bytes again, and only what has changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from tiny import PARAMS, ROOT, STAGES, TINY

from stages.params import load_params
from stages.roots import write_params

pytestmark = pytest.mark.slow


class Workspace:
    """A copy of the repository in its own folder, with DVC that meets no other configuration, cache or lock."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "copy"
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.root / name)
        write_params(PARAMS, self.root, TINY)
        own = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
        self.env = own | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(folder / "site"),
            "DVC_GLOBAL_CONFIG_DIR": str(folder / "config"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "NETFORMER_WORKERS": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.run("git", "init", "-q")
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-q", "-m", "copy")

    def run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def dvc(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def ran(self, output: str) -> set[str]:
        return {name for name in STAGES if f"Running stage '{name}'" in output}

    def lock(self) -> dict:
        return YAML(typ="safe").load((self.root / "dvc.lock").read_text())["stages"]


def test_dvc_builds_once_repeats_itself_and_reruns_only_what_a_parameter_reaches(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    assert space.ran(space.dvc("repro")) == set(STAGES)
    first = space.lock()
    assert set(first) == set(STAGES)
    assert space.ran(space.dvc("repro")) == set()
    assert json.loads(space.dvc("status", "--json")) == {}

    assert space.ran(space.dvc("repro", "--force")) == set(STAGES)
    assert space.lock() == first

    assert space.ran(space.dvc("exp", "run", "-S", "train.lr=1e-5")) == {"train", "sample", "evaluate", "search"}
    assert load_params(space.root).train.lr == 1e-5
    second = space.lock()
    assert second["train"]["outs"] != first["train"]["outs"]
    assert {name for name in STAGES if second[name] == first[name]} == {"download", "zoo", "tokenize", "metafeatures"}
