"""Before any test: torch works on one thread, as in the stages; processes that share the tests share the cores."""

import pytest
import torch

torch.set_num_threads(1)
pytest.register_assert_rewrite("commands", "pages")


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
