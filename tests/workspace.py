"""Copies and clones of the repository in which the tests run DVC."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML
from tiny import PARAMS, ROOT, STAGES, TINY

from stages.roots import write_params

DVC = (sys.executable, "-m", "dvc")
AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@example.org")


def contents(path: Path) -> dict[str, bytes]:
    """Bytes of a file, or of every file of a folder, by name."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    return {file.name: file.read_bytes() for file in files}


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
        self.commit("copy")

    def run(self, *command: str) -> str:
        """What a command says that succeeds."""
        done = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def fails(self, code: int, module: str, *arguments: str) -> str:
        """What a module says, on both streams, that ends with this exit code and no traceback."""
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    def dvc(self, *arguments: str) -> str:
        return self.run(*DVC, *arguments)

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", *AUTHOR, "commit", "-q", "-m", message)

    def ran(self, output: str) -> set[str]:
        return {name for name in STAGES if f"Running stage '{name}'" in output}

    def same(self, other: "Workspace", paths: tuple[str, ...]) -> bool:
        """Whether these files, or the files of these folders, have the same bytes in both."""
        return all(contents(self.root / path) == contents(other.root / path) for path in paths)

    def lock(self) -> dict:
        return YAML(typ="safe").load((self.root / "dvc.lock").read_text())["stages"]

    def object_of(self, path: str) -> str:
        """Where an artifact lies in a cache or a remote: a file, or the list of the files of a folder."""
        md5 = next(out["md5"] for one in self.lock().values() for out in one.get("outs", []) if out["path"] == path)
        return f"files/md5/{md5[:2]}/{md5[2:]}"


class Clone(Workspace):
    """A clone of a workspace, with a cache of its own."""

    def __init__(self, space: Workspace, folder: Path) -> None:
        self.root = folder / "clone"
        subprocess.run(["git", "clone", "-q", str(space.root), str(self.root)], check=True, env=space.env)
        self.env = space.env | {"DVC_SITE_CACHE_DIR": str(folder / "site")}
