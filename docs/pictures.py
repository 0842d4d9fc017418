"""Pictures of the site, a hook of mkdocs: the pipeline's become files of it, such as `pictures/evaluate/graphs.svg`.

`python docs/pictures.py` draws `docs/pictures/architecture.svg` from the imports; a build of the site does so too.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

from netformer.files import imported_names
from netformer.report.svg import Drawing, coordinate, label, save, short

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "architecture.svg"
LINE, TOP, TEXT, ARROWS, REACH = 30, 44, 92, 600, 20  # pixels: lines, and where text and arrows begin; an arrow's reach
WIDTH, LETTERS = 800, 84  # of the picture, and of what is said about a package


def on_pre_build(config: MkDocsConfig) -> None:
    """The picture of the packages, if it is not of today."""
    drawing, old = architecture(), PICTURE.read_bytes() if PICTURE.exists() else b""
    part = PICTURE.with_suffix(".new")
    save(drawing, part)
    if part.read_bytes() == old:  # a file that is touched builds the site again
        part.unlink()
    else:
        part.replace(PICTURE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pipeline's pictures under `pictures/`."""
    from mkdocs.structure.files import File

    reports = Path(config.config_file_path).parent / "reports"
    for path in sorted(reports.rglob("*.svg")):
        name = f"pictures/{path.relative_to(reports).as_posix()}"
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Pages name the pictures where they lie in the repository, `../reports/`, so that they are seen there too."""
    return re.sub(r"\]\(\.\./reports/(\S+?\.svg)\)", r"](pictures/\1)", markdown)


def packages(root: Path = ROOT) -> list[str]:
    """The packages in the order in which `docs/architecture.md` lists them."""
    text = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def arrows(root: Path = ROOT) -> set[tuple[str, str]]:
    """(package, package that one of its modules imports), also inside functions."""
    names, found = packages(root), set()
    for package in names:
        for path in (root / "netformer" / package).glob("*.py"):
            parts = [name.split(".") for name in imported_names(path)]
            found |= {(package, part[1]) for part in parts if part[0] == "netformer" and len(part) > 1}
    return {(user, used) for user, used in found if user != used and used in names}


def architecture(root: Path = ROOT) -> Drawing:
    """A line a package, with what its `__init__` says it is for, and an arrow to each package that it imports: strong,
    unless another arrow's package imports it too."""
    names, found = packages(root), arrows(root)
    reached: dict[str, set[str]] = {}  # by way of others too
    for user in names:
        direct = {used for one, used in found if one == user}
        reached[user] = direct.union(*(reached.get(used, set()) for used in direct))
    place = {name: TOP + i * LINE for i, name in enumerate(names)}
    title = "The packages of netformer. An arrow leads to what a package imports; thin: what it imports does so too"
    parts = [label(title, 8, 18, kind="title")]
    for name, y in place.items():
        said = ast.get_docstring(ast.parse((root / "netformer" / name / "__init__.py").read_text())) or ""
        said = re.split(r"\.\s|\.$|\n", said.partition(": ")[2])[0].replace("`", "")
        parts.append(label(name, 8, y + 4, kind="title"))
        parts.append(label(short(said, LETTERS), TEXT, y + 4))
        parts.append(f'<path class="dots c4" d="M{ARROWS} {y}h0"/>')
    for user, used in sorted(found):
        strong = not any(used in reached[other] for one, other in found if one == user and other != used)
        start, end = place[user], place[used] + 3
        reach = ARROWS + REACH * abs(names.index(user) - names.index(used))
        line = f"M{ARROWS + 4} {start}C{reach} {start} {reach} {end} {ARROWS + 8} {end}"
        head = f"M{coordinate(ARROWS + 13)} {end - 3.5}l-7 3l7.5 3.5"
        colour = "c0" if strong else "c5"
        parts.append(f'<path class="curve{" strong" if strong else ""} {colour}" d="{line}{head}"/>')
    return Drawing("packages and their imports", "".join(parts), WIDTH, TOP + LINE * len(names))


if __name__ == "__main__":
    save(architecture(), PICTURE)
