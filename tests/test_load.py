"""Under load: fit and predict from 8 threads and 4 processes at once give the answers of one."""

import multiprocessing
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from commands import small_model

from netformer import NetFormerRegressor

N_THREADS, N_PROCESSES, ROUNDS = 8, 4, 2


def answers(seed):
    """A table of its own, fitted and predicted."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(80 + seed, 3))
    y = X[:, 0] + np.sin(2 * X[:, 1]) * X[:, 2]
    return NetFormerRegressor(n_samples=2, random_state=seed).fit(X, y).predict(X)


def in_a_process(seed):
    with warnings.catch_warnings(), small_model():
        return answers(seed)


@pytest.fixture(scope="module")
def alone():
    with small_model():
        yield [answers(seed) for seed in range(N_THREADS)]


def test_eight_threads(alone):
    start = threading.Barrier(N_THREADS)

    def work(seed):
        start.wait(60)
        return [answers(seed) for _ in range(ROUNDS)]

    with ThreadPoolExecutor(N_THREADS) as pool:
        for seed, found in enumerate(pool.map(work, range(N_THREADS))):
            for one in found:
                np.testing.assert_array_equal(one, alone[seed])


def test_one_fitted_estimator_answers_eight_threads():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    with small_model():
        model = NetFormerRegressor(n_samples=2, random_state=0).fit(X, X[:, 0] * X[:, 1])
    parts = [X[i::N_THREADS] for i in range(N_THREADS)]
    expected = [model.predict(part) for part in parts]
    with ThreadPoolExecutor(N_THREADS) as pool:
        for found, known in zip(pool.map(model.predict, parts * 10), expected * 10, strict=True):
            np.testing.assert_array_equal(found, known)


def test_four_processes(alone):
    with ProcessPoolExecutor(N_PROCESSES, multiprocessing.get_context("forkserver")) as pool:
        for found, known in zip(pool.map(in_a_process, range(N_PROCESSES)), alone, strict=False):
            np.testing.assert_array_equal(found, known)
