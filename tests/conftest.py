"""Before any test: torch works on one thread, as in the stages; processes that share the tests share the cores."""

import pytest
import torch

torch.set_num_threads(1)
pytest.register_assert_rewrite("commands", "pages")


# Tests that share nothing: each may run on another worker of make test. All others stay with their file, whose fixtures
# they share.
APART = {"test_every_block_runs", "test_every_notebook_runs_and_is_kept_without_output"}
# The longest files, which workers are given first, so that none is left with one at the end.
FIRST = ("test_docs", "test_examples", "test_reportcard", "test_mixed_learners", "test_estimator", "test_explain")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config, items):
    """What `--dist loadgroup` keeps together, and in which order."""
    for item in items if config.pluginmanager.hasplugin("xdist") else ():
        if item.originalname not in APART:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))


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
