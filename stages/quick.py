"""quick: the whole pipeline on `params.yaml` made small by `params/quick.yaml`, under `build/quick/`.

No stage of the pipeline. The same reports and pictures in two minutes on two cores; a stage whose code, params and
inputs have not changed is not run again. It ends by printing the results.
"""

import shutil
from pathlib import Path

from ruamel.yaml import YAML

from stages import run, show
from stages.pretrain import PREPARATION
from stages.roots import once, write_params

WORK, CHANGES = Path("build/quick"), Path("params/quick.yaml")
STAGES = (*PREPARATION, "train", "sample", "evaluate", "search")


def main(repository: Path = Path()) -> None:
    root = repository / WORK
    write_params(repository / "params.yaml", root, YAML(typ="safe").load((repository / CHANGES).read_text()))
    shutil.copyfile(repository / "data" / "sample.csv", root / "data" / "sample.csv")
    for stage in STAGES:
        once(repository, root, stage)
    show.main(root)
    print(f"{'page':<16}{root / 'reports' / 'evaluate' / 'report.html'}")


if __name__ == "__main__":
    run(main)
