"""Trees against all participation patterns, published values and tensorflow_privacy."""

import itertools
import time

import numpy as np
import pytest

from fl_research.errors import InputError
from fl_research.privacy.factorization import toeplitz, tree
from fl_research.privacy.factorization.banded import optimal_banded_coefficients
from fl_research.privacy.factorization.buffered import optimal_buffers
from fl_research.privacy.factorization.tree import TreeSensitivity, squared_tree_sensitivity
from tests.privacy.factorization.participation_patterns import patterns

SETTINGS = list(itertools.product((1, 3, 6, 11, 13), (None, 1, 3, 4, 8), (1, 2, 4), (1, 2, 3, 5)))


def sensitivity(
    rounds: int, restart: int | None, participations: int | None, separation: int
) -> TreeSensitivity:
    return squared_tree_sensitivity(
        rounds=rounds,
        restart_every=restart,
        max_participations=participations,
        min_separation=separation,
    )


def node_matrix(rounds: int, restart: int | None) -> np.ndarray:
    """Returns one row a complete node: ones at the rounds that it covers."""
    rows = []
    for start in range(0, rounds, restart or rounds):
        size = min(restart or rounds, rounds - start)
        for level in range(size.bit_length()):
            for first in range(0, size - 2**level + 1, 2**level):
                row = np.zeros(rounds)
                row[start + first : start + first + 2**level] = 1
                rows.append(row)
    return np.stack(rows)


def worst_pattern(rounds: int, restart: int | None, participations: int, separation: int) -> float:
    nodes = node_matrix(rounds, restart)
    return max(np.sum((nodes @ p) ** 2) for p in patterns(rounds, participations, separation))


@pytest.mark.parametrize("restart", [None, 1, 3, 4, 8])
def test_sensitivity_is_that_of_the_worst_pattern(restart: int | None) -> None:
    for setting in SETTINGS:
        if setting[1] == restart:
            assert sensitivity(*setting) == TreeSensitivity(worst_pattern(*setting), exact=True)


def test_a_search_that_drops_states_gives_an_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one state a round the sum is often missed; then it says so, and is never too small."""
    settings = [*SETTINGS, (1015, 87, 42, 14), (384, None, 82, 3), (700, None, 17, 3)]
    exact = [sensitivity(*setting) for setting in settings]
    assert all(found.exact for found in exact)
    squared_tree_sensitivity.cache_clear()
    monkeypatch.setattr(tree, "_WIDTHS", (1,))
    narrow = [sensitivity(*setting) for setting in settings]
    squared_tree_sensitivity.cache_clear()
    for one, other in zip(narrow, exact, strict=True):
        assert one == other if one.exact else one.squared >= other.squared
    assert sum(not one.exact for one in narrow) >= 2


@pytest.mark.parametrize(
    ("rounds", "participations", "separation", "expected"),
    [
        *[(8, 1, 8, 4), (9, 3, 4, 11), (7, 3, 3, 9), (24, 8, 3, 88)],
        *[(2000, 6, 313, 79), (1600, 1, 1, 11), (1600, 1, 900, 11)],
    ],
)
def test_published_values(rounds: int, participations: int, separation: int, expected: int) -> None:
    """tensorflow_privacy's own cases, and two settings of published runs."""
    assert sensitivity(rounds, None, participations, separation) == TreeSensitivity(expected, True)


def test_tensorflow_privacy_agrees() -> None:
    """Its separation counts the rounds between two participations, one less than ours."""
    accountant = pytest.importorskip(
        "tensorflow_privacy.privacy.analysis.tree_aggregation_accountant"
    )
    for rounds, participations, separation in [
        *[(20, 4, 3), (31, 5, 6), (32, 3, 9), (45, 6, 5), (63, 7, 9), (64, 7, 9), (90, 5, 17)],
        *[(100, 9, 4), (127, 4, 30), (130, 11, 10)],
    ]:
        theirs = accountant._max_tree_sensitivity_square_sum(participations, separation - 1, rounds)
        assert sensitivity(rounds, None, participations, separation).squared == theirs


@pytest.mark.parametrize("rounds", [1, 3, 8, 19, 200, 1023])
def test_every_round_counts_all_nodes(rounds: int) -> None:
    expected = sum(2**d * (2 ** (d + 1) - 1) for d in range(11) if rounds >> d & 1)
    assert sensitivity(rounds, None, None, 1) == TreeSensitivity(expected, exact=True)


@pytest.mark.parametrize(("rounds", "restart"), [(100, 10), (100, 16), (31, 32), (5000, 1000)])
def test_one_participation_counts_the_levels(rounds: int, restart: int) -> None:
    expected = min(rounds, restart).bit_length()
    assert sensitivity(rounds, restart, 1, 3) == TreeSensitivity(expected, exact=True)


@pytest.mark.parametrize(
    "setting",
    [(5000, None, 10, 100), (5000, None, 50, 100), (5000, None, 50, 1), (5000, 300, None, 33)],
)
def test_long_runs_are_exact(setting: tuple) -> None:
    assert sensitivity(*setting).exact


def test_hard_settings_end_soon_with_a_bound_between_two_that_are_known() -> None:
    """It took about 1 s; the limit is generous, for a machine that is busy."""
    start = time.process_time()
    found = sensitivity(5000, None, 1000, 3)
    assert time.process_time() - start < 10
    nodes_under = [np.arange(0, 3000, 3) >> level for level in range(13)]
    packed = sum(
        np.sum(np.bincount(under)[: 5000 >> level] ** 2) for level, under in enumerate(nodes_under)
    )
    assert packed <= found.squared <= 1.01 * packed


@pytest.mark.parametrize(("restart", "efficient"), itertools.product((None, 5), (False, True)))
def test_prefix_errors_are_those_of_tensorflow_privacys_aggregators(
    restart: int | None, efficient: bool
) -> None:
    """Each node's noise is a unit vector of its own; the squared norm of a sum is its variance."""
    tf = pytest.importorskip("tensorflow")
    from tensorflow_privacy.privacy.dp_query import tree_aggregation

    class UnitVectors(tree_aggregation.ValueGenerator):
        def initialize(self) -> tf.Tensor:
            return tf.constant(0)

        def next(self, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.one_hot(state, 60), state + 1

    kinds = (tree_aggregation.TreeAggregator, tree_aggregation.EfficientTreeAggregator)
    aggregator = kinds[efficient](UnitVectors())
    state = aggregator.init_state()
    finished = noise = np.zeros(60)
    variances = []
    for position in range(13):
        if restart and position and position % restart == 0:
            finished, state = finished + noise, aggregator.reset_state(state)
        noise, state = aggregator.get_cumsum_and_update(state)
        noise = noise.numpy()
        variances.append(np.sum((finished + noise) ** 2))
    errors = tree.prefix_errors(rounds=13, restart_every=restart, efficient=efficient)
    np.testing.assert_allclose(errors, variances, rtol=1e-5)


def test_the_estimate_from_below_is_the_best_one_of_a_nodes_own_tree() -> None:
    """Least squares on all nodes of a complete tree, for the sum of its leaves."""
    errors = tree.prefix_errors(rounds=16, restart_every=None, efficient=True)
    for level in range(5):
        size = 2**level
        nodes = node_matrix(size, None)
        best = np.ones(size) @ np.linalg.solve(nodes.T @ nodes, np.ones(size))
        assert errors[size - 1] == pytest.approx(best, rel=1e-12)


def test_plain_prefix_errors_count_nodes() -> None:
    errors = tree.prefix_errors(rounds=9, restart_every=7, efficient=False)
    np.testing.assert_array_equal(errors, [1, 1, 2, 1, 2, 2, 3, 4, 4])


def test_mechanisms_at_equal_privacy_are_in_the_known_order() -> None:
    limits = {"rounds": 1000, "max_participations": 10, "min_separation": 100}
    trees = [
        tree.prefix_errors(rounds=1000, restart_every=None, efficient=efficient).mean()
        * squared_tree_sensitivity(restart_every=None, **limits).squared
        for efficient in (False, True)
    ]
    buffers = optimal_buffers(buffers=2, **limits).coefficients(1000)
    banded = optimal_banded_coefficients(bands=100, **limits)
    losses = [
        toeplitz.mean_squared_error(toeplitz.INDEPENDENT_NOISE, **limits),
        *trees,
        toeplitz.mean_squared_error(buffers, **limits),
        toeplitz.mean_squared_error(banded, **limits),
    ]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(
    "name", ["rounds", "restart_every", "max_participations", "min_separation"]
)
def test_numbers_below_one_are_refused(name: str) -> None:
    numbers = {"rounds": 9, "restart_every": 3, "max_participations": 2, "min_separation": 2}
    with pytest.raises(InputError, match=f"{name}=0 "):
        squared_tree_sensitivity(**{**numbers, name: 0})
    if name in ("rounds", "restart_every"):
        errors = {"rounds": 9, "restart_every": 3, name: 0}
        with pytest.raises(InputError, match=f"{name}=0 "):
            tree.prefix_errors(**errors, efficient=True)
