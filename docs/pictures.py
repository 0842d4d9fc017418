"""Hook of mkdocs: the pictures the pipeline drew become files of the site, `pictures/evaluate/graphs.svg`."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    reports = Path(config.config_file_path).parent / "reports"
    for path in sorted(reports.rglob("*.svg")):
        name = f"pictures/{path.relative_to(reports).as_posix()}"
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files
