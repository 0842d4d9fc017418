"""Hook of mkdocs: the notebooks run while the site is built, and become pages of it with what they answered."""

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from traitlets.config import Config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    root = Path(config.config_file_path).parent
    for path in sorted((Path(config.docs_dir) / "notebooks").glob("*.ipynb")):
        page = _page(path.read_text(encoding="utf-8"), root)
        note = f"*This page is the notebook `{path.relative_to(root)}`, run when the site was built.*\n"
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=f"{page}\n{note}"))
    return files


@cache  # mkdocs serve asks again after every change of a page
def _page(text: str, root: Path) -> str:
    """A notebook as Markdown: its text, its code, and below each cell what was printed and its value as plain text.

    Raises nbclient's CellExecutionError, which ends the build, for a cell that fails.
    """
    notebook = nbformat.reads(text, as_version=4)
    own = {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with TemporaryDirectory() as folder:
        local = Config(KernelManager={"transport": "ipc", "ip": str(Path(folder, "kernel"))})  # no port is opened
        client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": folder}}, config=local)
        client.execute(env=os.environ | own)
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code":
            parts.append(_fenced("python", cell.source))
            answers = [_answer(output) for output in cell.outputs]
            parts += [_fenced("text", answer) for answer in answers if answer]
    return "\n\n".join(parts) + "\n"


def _answer(output: nbformat.NotebookNode) -> str:
    if output.output_type == "stream":
        return output.text.rstrip("\n") if output.name == "stdout" else ""
    return output.get("data", {}).get("text/plain", "")


def _fenced(language: str, text: str) -> str:
    fence = "```" if "```" not in text else "````"
    return f"{fence}{language}\n{text}\n{fence}"
