"""What may be asked of the networks written: anything else is one line."""

import re

import numpy as np
import pytest

from netformer.errors import InputError
from netformer.model.prompt import Prompt, check_request

NOT_WHOLE = [0, -1, 2.5, float("nan"), True, "4"]
BAD_PROMPTS = [
    *(({name: value}, f"{name} must be None or a whole number of at least 1, got {value!r}")
      for name in ("max_params", "max_hidden_layers") for value in NOT_WHOLE),
    *(({"activations": value}, "activations must be None or a list of identity, relu, tanh, sigmoid, gelu, got ")
      for value in ("relu", [], ("sine",), 3, [["relu"]])),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "text"), BAD_PROMPTS)
def test_a_prompt_that_is_none_is_refused(asked, text):
    with pytest.raises(InputError, match=re.escape(text)):
        Prompt(**asked)


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        *(({"n_samples": value}, "n_samples must be a whole number of at least 1, got") for value in NOT_WHOLE),
        *(({"refine_steps": v}, "refine_steps must be a whole number of at least 0, got") for v in NOT_WHOLE[1:]),
        *(({"temperature": v}, "temperature must be None or a finite number") for v in (-1, float("nan"), True, "1")),
        *(({"target_r2": v}, "target_r2 must be None or a finite number of at most 1") for v in (1.5, float("nan"))),
        ({"target_r2": 0.5, "refine_steps": 3}, "target_r2 goes without temperature and refine_steps, got None and 3"),
        ({"target_r2": 0.5, "temperature": 1.0}, "target_r2 goes without temperature and refine_steps, got 1.0 and 0"),
    ],
)
def test_a_request_that_is_none_is_refused(asked, text):
    with pytest.raises(InputError, match=re.escape(text)):
        check_request(**{"n_samples": 4} | asked)


def test_whole_numbers_of_numpy_are_taken():
    assert Prompt(np.int64(60), np.int32(2), ["relu"]) == Prompt(60, 2, ("relu",))
    assert check_request(np.int64(3), np.int16(2)) == (3, 2)
