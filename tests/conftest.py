"""Before any test: torch works on one thread, as in the stages; processes that share the tests share the cores."""

import pytest
import torch

torch.set_num_threads(1)
pytest.register_assert_rewrite("chromium", "commands", "pages")


# Tests that share nothing: each may run on another worker of make test. All others stay with their file, whose fixtures
# they share.
APART = {"test_every_block_runs", "test_every_notebook_runs_and_is_kept_without_output"}
# The longest files, which workers are given first, so that none is left with one at the end.
FIRST = ("test_docs", "test_examples", "test_reportcard", "test_mixed_learners", "test_estimator", "test_explain")


def pytest_collection_modifyitems(items):
    """The longest files first."""
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))


@pytest.hookimpl(optionalhook=True)  # there is none without xdist
def pytest_xdist_make_scheduler(config, log):
    """Of `--dist loadfile`: a file to a worker, but for tests that are `APART`."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduler(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file, test = nodeid.split("::", 1)
            return nodeid if test.split("[")[0] in APART else file

    return Scheduler(config, log)


@pytest.fixture(scope="module")
def small_package():
    """Commands write with a small untrained model in place of the package's."""
    from commands import small_model

    with small_model():
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Tables, and networks that the small model wrote for one of them: `commands.write_tables`."""
    from commands import small_model, write_tables

    path = tmp_path_factory.mktemp("cli")
    with small_model():
        write_tables(path)
    return path


@pytest.fixture(scope="module")
def browser():
    """Chromium, for pages that are models."""
    from chromium import started

    yield from started()
