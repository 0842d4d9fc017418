"""`make object-check` on a cache and a remote of a few files; tests/test_remotes.py has the pipeline's."""

import shutil
from pathlib import Path

import pytest

from netformer.errors import InputError
from stages import object_check

pytestmark = pytest.mark.filterwarnings("ignore")  # of DVC's dependencies


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder under DVC: a file of two versions and a folder, in the cache and on a remote."""
    from dvc.repo import Repo

    for name in ("SITE_CACHE_DIR", "GLOBAL_CONFIG_DIR", "SYSTEM_CONFIG_DIR"):
        monkeypatch.setenv(f"DVC_{name}", str(tmp_path / name))
    root = tmp_path / "project"
    (root / "models").mkdir(parents=True)
    monkeypatch.chdir(root)
    with Repo.init(no_scm=True) as repo:
        for name, text in (("a.csv", "old"), ("a.csv", "new"), ("models/weights", "12"), ("models/config", "34")):
            (root / name).write_text(text)
            repo.add(name.split("/")[0])
    shutil.copytree(root / ".dvc" / "cache", tmp_path / "remote")
    store = f"[core]\nno_scm = true\nremote = store\n['remote \"store\"']\nurl = {tmp_path / 'remote'}\n"
    (root / ".dvc" / "config").write_text(store)
    return root


def objects(folder):
    """Objects of a store by what they hold; the list of a folder under "list"."""
    found = {}
    for path in folder.rglob("files/md5/*/*"):
        found["list" if path.suffix == ".dir" and "weights" in path.read_text() else path.read_text()] = path
    return found


def replaced(path, text):
    path.unlink()
    path.write_text(text)


def lines(capsys, root, *arguments):
    with pytest.raises(SystemExit) as ended:
        object_check.main(root, *arguments)
    said = [line.partition(" (")[0] for line in capsys.readouterr().out.splitlines()]
    assert ended.value.code == int(any("damaged" in line or "missing" in line for line in said))
    return said


def test_a_whole_store_is_whole_and_what_is_temporary_is_no_object(project, capsys):
    (project / ".dvc" / "cache" / "files" / "md5" / "ab").mkdir()
    (project / ".dvc" / "cache" / "files" / "md5" / "ab" / ".tmp1234").write_text("half")
    assert lines(capsys, project) == ["cache: whole", "remote: whole"]


def test_every_damage_is_named_and_removed_where_that_is_asked_for(project, capsys):
    cache, remote = objects(project / ".dvc" / "cache"), objects(project.parent / "remote")
    replaced(cache["old"], "odd")
    replaced(cache["list"], "[]")
    remote["new"].unlink()
    replaced(remote["34"], "35")
    expected = [
        "cache: models: damaged",
        "cache: of another version: damaged",
        "remote: models/config: damaged",
        "remote: a.csv: missing",
    ]
    for _ in range(2):
        assert sorted(lines(capsys, project)) == sorted(expected)
        assert remote["list"].exists()
        assert cache["old"].exists()
    assert sorted(lines(capsys, project, "store", True)) == sorted(expected)
    assert not any(path.exists() for path in (cache["old"], cache["list"], remote["34"], remote["list"]))
    assert all(path.exists() for path in (cache["new"], cache["12"], remote["old"], remote["12"]))
    left = ["cache: models: missing", "remote: a.csv: missing", "remote: models: missing"]
    assert sorted(lines(capsys, project)) == left


def test_what_cannot_be_looked_at_is_one_line(project, tmp_path):
    with pytest.raises(InputError, match="elsewhere") as caught:
        object_check.main(project, "elsewhere")
    assert "\n" not in str(caught.value)
    (tmp_path / "plain").mkdir()
    with pytest.raises(InputError, match=r"not inside of a DVC repository|not a DVC repository") as caught:
        object_check.main(Path(tmp_path / "plain"))
    assert "\n" not in str(caught.value)
