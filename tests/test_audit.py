"""`make audit` with an index of weaknesses that answers, knows nothing, breaks down or hangs."""

import json
import sys

import pytest

from stages import audit, run

WEAK = json.dumps({"dependencies": [{"name": "requests", "version": "2.19.0", "vulns": [{"id": "a weakness"}]}]})
UNKNOWN = json.dumps({"dependencies": [{"name": "requests", "skip_reason": "not found"}]})
TOOL = """
import sys, time
first = "--requirement" in sys.argv
what = sys.argv[1 if first else 2]
if what == "hangs":
    time.sleep(60)
print(what)
raise SystemExit(int(what == "found" or first))
"""  # two answers: to the package that is known to be weak, and to those installed


def ended(to_first, then="none", **seconds):
    """The exit code of the audit."""
    with pytest.raises(SystemExit) as caught:
        run(lambda repository: audit.main(repository, [sys.executable, "-c", TOOL, to_first, then], ".", **seconds))
    return caught.value.code


@pytest.mark.parametrize("first", [UNKNOWN, "Traceback", "hangs"])
def test_an_index_that_cannot_be_reached_or_knows_nothing_is_one_line(capfd, first):
    assert ended(first, first=1.0) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "cannot be reached (nothing known of requests==2.19.0); no package was looked up" in said.err


def test_weaknesses_are_listed_and_its_exit_code(capfd):
    assert ended(WEAK, "found") == 1
    assert ended(WEAK, "none") == 0
    assert capfd.readouterr().out == "found\nnone\n"


def test_an_index_that_hangs_later_is_given_up(capfd):
    assert ended(WEAK, "hangs", whole=1.0) == 2
    assert "did not answer for all packages within 1 s" in capfd.readouterr().err
