"""Before any test: torch works on one thread, as in the stages; processes that share the tests share the cores."""

import pytest
import torch

torch.set_num_threads(1)
pytest.register_assert_rewrite("commands", "pages")
