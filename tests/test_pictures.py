"""Pictures of the documentation: the one of the packages is that of their imports, and of today."""

import importlib.util
from pathlib import Path

from test_layout import ORDER, PACKAGE, imported

from netformer.report.svg import save

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
pictures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pictures)


def test_the_committed_picture_of_the_packages_is_of_today(tmp_path):
    save(pictures.architecture(), tmp_path / "new.svg")
    assert (tmp_path / "new.svg").read_text() == pictures.PICTURE.read_text(), "run python docs/pictures.py"


def test_packages_are_in_their_order_and_arrows_are_their_imports():
    assert pictures.packages() == list(ORDER)
    found = {
        (package, name.split(".")[1])
        for package in ORDER
        for path in (PACKAGE / package).glob("*.py")
        for name in imported(path)
    }
    assert pictures.arrows() == {(user, used) for user, used in found if used in ORDER and used != user}
    body = pictures.architecture().body
    assert body.count('<path class="curve') == len(pictures.arrows())


def test_a_build_touches_the_picture_only_when_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "PICTURE", tmp_path / "a.svg")
    pictures.on_pre_build(None)
    first = (tmp_path / "a.svg").stat().st_mtime_ns
    pictures.on_pre_build(None)
    assert (tmp_path / "a.svg").stat().st_mtime_ns == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg"]
