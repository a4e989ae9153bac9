"""What is particular to one model family; what all share is in contracts/test_models.py."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from fl_research.errors import InputError
from fl_research.models import logistic_regression, mlp, registry
from fl_research.objectives.binary_classification import BinaryClassification


def test_families_are_found_by_file_name() -> None:
    assert {"logistic_regression", "mlp"} <= set(registry.names())
    assert "registry" not in registry.names()
    assert registry.load("mlp") is mlp
    with pytest.raises(InputError, match="model='resnet' is unknown.*logistic_regression.*mlp"):
        registry.load("resnet")


def test_settings_are_read_without_tensorflow() -> None:
    """A command line may list models, optimizers and metrics before TensorFlow is imported."""
    program = (
        "import sys\n"
        "from fl_research.models import registry\n"
        "from fl_research.learning import client_spread, optimizers\n"
        "[registry.load(name).Config for name in registry.names()]\n"
        "optimizers.OptimizerConfig(learning_rate=0.1)\n"
        "sys.exit('tensorflow' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_logistic_regression_starts_at_one_half() -> None:
    model = logistic_regression.build(
        logistic_regression.Config(),
        row_types={"inputs": ((3,), np.dtype(np.float32))},
        objective=BinaryClassification(),
        seed=1,
    )
    kernel, bias = model.initial_weights[0]
    assert kernel.shape == (3, 1) and not kernel.any() and bias == 0
    weights = ((tf.constant([[1.0], [2.0], [-1.0]]), tf.constant([0.5])), ())
    logits = model.predict_on_batch(weights, {"inputs": tf.constant([[1.0, 0.0, 3.0]])})
    np.testing.assert_array_equal(logits, [-1.5])


def test_mlp_computes_what_its_layers_say() -> None:
    """Two hidden layers by hand, to 1e-6."""
    model = mlp.build(
        mlp.Config(hidden_sizes=(5, 3)),
        row_types={"inputs": ((4,), np.dtype(np.float32))},
        objective=BinaryClassification(),
        seed=2,
    )
    weights = [np.asarray(w, np.float64) for w in model.initial_weights[0]]
    assert [w.shape for w in weights] == [(4, 5), (5,), (5, 3), (3,), (3, 1), (1,)]
    x = np.random.default_rng(0).normal(size=[6, 4])
    hidden = np.maximum(np.maximum(x @ weights[0], 0) @ weights[2], 0)
    logits = model.predict_on_batch(
        tf.nest.map_structure(tf.constant, model.initial_weights),
        {"inputs": tf.constant(x, tf.float32)},
    )
    np.testing.assert_allclose(logits, (hidden @ weights[4])[:, 0], atol=1e-6)


def test_mlp_starts_with_the_variance_of_he_and_glorot() -> None:
    """Seeded, so it never alarms by chance: 2 / fan-in to 5 %, uniform below Glorot's limit."""
    model = mlp.build(
        mlp.Config(hidden_sizes=(400,)),
        row_types={"inputs": ((50,), np.dtype(np.float32))},
        objective=BinaryClassification(),
        seed=3,
    )
    hidden, hidden_bias, last, last_bias = model.initial_weights[0]
    assert hidden.var() == pytest.approx(2 / 50, rel=0.05)
    limit = np.sqrt(6 / 401)
    assert 0.95 * limit < np.abs(last).max() <= limit
    assert last.var() == pytest.approx(limit**2 / 3, rel=0.2)
    assert not hidden_bias.any() and not last_bias.any()


@pytest.mark.parametrize("sizes", [(), (0,), (8, -1)])
def test_mlp_without_a_hidden_layer_is_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="hidden_sizes=.*logistic_regression"):
        mlp.Config(hidden_sizes=sizes)
