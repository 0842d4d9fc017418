"""object_check: the cache of DVC and a remote, every object read and compared with its name, which is its MD5.

No stage of the pipeline. DVC itself takes an object that is there for whole: it looks at most at those that it
downloads (`verify` of a remote), and takes a folder for complete once its list is there. Named are objects that are
damaged, and those that `dvc.lock` or the list of a folder names and that are not there. With `--remove` damaged ones
and lists of incomplete folders are removed, so that `dvc repro` makes them again, `dvc fetch` fetches and `dvc push`
sends them. Everything of a remote is downloaded for it. Exit code 1 if something was found.
"""

import argparse
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo

from netformer.errors import InputError
from stages import run

OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")  # others are temporary
OTHER = "of another version"


def findings(store: Any, wanted: dict[str, str], remove: bool) -> list[str]:
    """What is damaged or missing in a store of objects (`HashFileDB`), a line each.

    wanted: paths by object. remove: damaged objects, and the lists of folders of which a file is damaged or missing.
    """
    names = dict(wanted)
    whole: set[str] = set()
    damaged: set[str] = set()
    for name in sorted(one for one in store.all() if OBJECT.fullmatch(one)):
        with store.fs.open(store.oid_to_path(name), "rb") as file:
            (whole if hashlib.file_digest(file, "md5").hexdigest() == name[:32] else damaged).add(name)
    missing, incomplete = set(wanted) - whole - damaged, set()
    for name in sorted(one for one in whole if one.endswith(".dir")):
        with store.fs.open(store.oid_to_path(name), "rb") as file:
            parts = {entry["md5"]: entry["relpath"] for entry in json.load(file)}
        names = {part: f"{names.get(name, OTHER)}/{path}" for part, path in parts.items()} | names
        missing |= parts.keys() - whole - damaged
        if parts.keys() - whole:
            incomplete.add(name)
    if remove:
        for name in damaged | incomplete:
            store.delete(name)
    return [
        f"{names.get(name, OTHER)}: {what} ({name})"
        for what, some in (("damaged", damaged), ("missing", missing))
        for name in sorted(some)
    ]


def main(root: Path, remote: str | None = None, remove: bool = False) -> None:
    """Look at the cache, and at a remote: the one named, else the default one if there is one. Raises InputError where
    that cannot be done, SystemExit 1 where something is damaged or missing."""
    found = 0
    try:
        with Repo(str(root)) as repo, repo.lock:
            wanted = {
                out.hash_info.value: Path(out.fs_path).relative_to(repo.root_dir).as_posix()
                for out in repo.index.outs
                if out.use_cache and out.hash_info
            }
            stores = {"cache": repo.cache.local}
            if remote or repo.config["core"].get("remote"):
                stores["remote"] = repo.cloud.get_remote_odb(remote)
            for place, store in stores.items():
                lines = findings(store, wanted, remove)
                found += len(lines)
                for line in lines:
                    print(f"{place}: {line}")
                if not lines:
                    print(f"{place}: whole")
    except DvcException as error:
        raise InputError(" ".join(str(error).split())) from None
    raise SystemExit(int(found > 0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--remote")
    parser.add_argument("--remove", action="store_true")
    given = parser.parse_args()
    run(lambda root: main(root, given.remote, given.remove))
