"""audit: known weaknesses of the packages installed, by pip-audit, which asks PyPI about one after the other.

No stage of the pipeline. It first asks about a package whose weaknesses are known: an index that is a mirror without
them would say of everything that nothing is known. Exit code 0: no weakness is known; 1: some are, and listed; 2: the
index cannot be reached, knows of none or takes too long, in one line.
"""

import json
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from stages import run

TOOL = (".venv/supply-tools/bin/python", "-m", "pip_audit", "--progress-spinner", "off", "--timeout", "10")
WEAK = "requests==2.19.0"  # CVE-2018-18074 and others
FIRST, WHOLE = 60.0, 900.0  # seconds for that one, and for all packages


def main(
    repository: Path, tool: Sequence[str] = TOOL, installed: str = "", first: float = FIRST, whole: float = WHOLE
) -> None:
    """Ask about every package in the folder `installed` (that of this Python).

    tool: the command. first, whole: seconds. Raises OSError where the index cannot tell, SystemExit 1 where weaknesses
    are known.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "requirements.txt"
        asked.write_text(WEAK)
        command = (*tool, "--format", "json", "--no-deps", "--disable-pip", "--requirement", str(asked))
        try:
            said = subprocess.run(command, cwd=repository, timeout=first, capture_output=True, text=True, check=False)
            known = any(one.get("vulns") for one in json.loads(said.stdout)["dependencies"])
        except (subprocess.TimeoutExpired, ValueError):
            known = False
    if not known:
        raise OSError(f"the index of weaknesses cannot be reached (nothing known of {WEAK}); no package was looked up")
    command = (*tool, "--path", installed or sysconfig.get_path("purelib"))
    try:
        code = subprocess.run(command, cwd=repository, timeout=whole, check=False).returncode
    except subprocess.TimeoutExpired:
        raise OSError(f"the index of weaknesses did not answer for all packages within {whole:.0f} s") from None
    raise SystemExit(code)


if __name__ == "__main__":
    run(main)
