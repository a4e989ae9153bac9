"""Which flags belong to a component that may not be selected, and what follows.

A flag of a component has no default: set for a component that is not selected, it is an error.
"""

from typing import Any

from absl import flags

from experiments.experiment_flags import as_typed
from fl_research.errors import InputError

FLAGS = flags.FLAGS

_TABLE = ("table",)
_MATRIX_FACTORIZATION = ("matrix_factorization",)
_CORRELATED = ("tree_aggregation", "banded_matrix_factorization", "buffered_toeplitz")
_SIMULATED = ("iid", "dirichlet", "quantity")

OWNERS: dict[str, dict[str, tuple[str, ...]]] = {
    "mechanism": {
        "clip_norm": (
            "gaussian",
            "adaptive_gaussian",
            "laplace",
            *_CORRELATED,
            "local_gaussian",
            "client_dpsgd",
        ),
        "tree_aggregation_target_quantile": ("tree_aggregation",),
        "tree_aggregation_clip_learning_rate": ("tree_aggregation",),
        "tree_aggregation_clipped_count_stddev": ("tree_aggregation",),
        "restart_every": ("tree_aggregation",),
        "bands": ("banded_matrix_factorization",),
        "buffers": ("buffered_toeplitz",),
        "adaptive_gaussian_target_quantile": ("adaptive_gaussian",),
        "adaptive_gaussian_clip_learning_rate": ("adaptive_gaussian",),
        "adaptive_gaussian_clipped_count_stddev": ("adaptive_gaussian",),
    },
    "model": {
        "mlp_hidden_sizes": ("mlp",),
        "gru_units": ("gru",),
        "k_means_restarts": ("k_means",),
        "buckets": ("hashed_linear", "embedding_bag", "dual_encoder"),
        "embedding_bag_width": ("embedding_bag",),
        "embedding_bag_hidden_sizes": ("embedding_bag",),
        "dual_encoder_width": ("dual_encoder",),
        "dual_encoder_scale": ("dual_encoder",),
        "dual_encoder_negatives": ("dual_encoder",),
        "matrix_factorization_factors": _MATRIX_FACTORIZATION,
        "matrix_factorization_ridge": _MATRIX_FACTORIZATION,
        "matrix_factorization_item_ridge": _MATRIX_FACTORIZATION,
        "matrix_factorization_unobserved_weight": _MATRIX_FACTORIZATION,
    },
    "dataset": {
        "schema": _TABLE,
        "infer_schema": _TABLE,
        "label_column": _TABLE,
        "positive_label": _TABLE,
        "client_column": _TABLE,
        "person_column": _TABLE,
        "text_column": _TABLE,
        "time_column": _TABLE,
        "value_column": _TABLE,
        "user_column": _TABLE,
        "item_column": _TABLE,
        "rating_column": _TABLE,
        "drop_columns": _TABLE,
        "delimiter": _TABLE,
        "encoding": _TABLE,
        "header": _TABLE,
        "columns": _TABLE,
        "query": _TABLE,
        "json_path": _TABLE,
        "bearer_token_env": _TABLE,
    },
    "partition": {
        "partition_clients": _SIMULATED,
        "dirichlet_concentration": ("dirichlet",),
        "quantity_sigma": ("quantity",),
    },
}
"""Selector flag -> component flag -> the components that it belongs to."""


def selected_flags(selector: str) -> dict[str, Any]:
    """Returns the set flags of the selected component, by the names that its config has.

    Args:
      selector: The flag that selects, such as `"mechanism"`.

    Raises:
      InputError: A flag of another component is set.
    """
    selected = FLAGS[selector].value
    values: dict[str, Any] = {}
    for name, owners in OWNERS[selector].items():
        value = FLAGS[name].value
        if value is None:
            continue
        if selected not in owners:
            raise InputError(
                f"--{name}={as_typed(value)} belongs to --{selector}={' or '.join(owners)}, but "
                f"--{selector}={selected} is selected; leave the flag out or select that {selector}"
            )
        values[name.removeprefix(f"{selected}_")] = value
    return values
