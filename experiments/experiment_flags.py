"""Every flag that experiment binaries share, declared once; `config_from_flags` reads them.

A flag without a default belongs to a component that may not be selected; set for one that is not
selected, it is an error. Only absl is imported, so that `--help` answers at once.
"""

import hashlib
from typing import Any

from absl import flags

from experiments import privacy_flags
from fl_research.errors import InputError
from fl_research.runtime import worker_addresses

FLAGS = flags.FLAGS

flags.adopt_module_key_flags(privacy_flags)
flags.DEFINE_float(
    "clip_norm",
    None,
    "Bound on the norm of one client's update: L2, but L1 for laplace; the first of an adaptive "
    "clip; for client_dpsgd the bound of one record's gradient.",
)
flags.DEFINE_float(
    "adaptive_gaussian_target_quantile", None, "Share of clients that the clip leaves whole (0.5)."
)
flags.DEFINE_float(
    "adaptive_gaussian_clip_learning_rate", None, "How fast the clip moves, geometrically (0.2)."
)
flags.DEFINE_float(
    "adaptive_gaussian_clipped_count_stddev",
    None,
    "Noise on the count of unclipped clients (clients_per_round / 20).",
)
flags.DEFINE_float(
    "tree_aggregation_target_quantile",
    None,
    "Share of clients that the clip leaves whole, moved at each restart (default: the clip stays).",
)
flags.DEFINE_float(
    "tree_aggregation_clip_learning_rate", None, "How fast that clip moves at a restart (1.0)."
)
flags.DEFINE_float(
    "tree_aggregation_clipped_count_stddev",
    None,
    "Noise on the count of unclipped clients (clients_per_round / 20).",
)
flags.DEFINE_string("model", "logistic_regression", "logistic_regression or mlp.")
flags.DEFINE_list("mlp_hidden_sizes", None, "Units of each hidden layer of the mlp, such as 64,32.")
flags.DEFINE_integer("gru_units", None, "Size of the state of the gru (16).")
flags.DEFINE_integer(
    "buckets", None, "Ids that the features of a text are hashed into, for models of texts (4096)."
)
flags.DEFINE_integer("embedding_bag_width", None, "Numbers in the embedding of an id (64).")
flags.DEFINE_list(
    "embedding_bag_hidden_sizes", None, "Units of each hidden layer of the embedding_bag (none)."
)
flags.DEFINE_integer("dual_encoder_width", None, "Numbers in the embedding of an id (64).")
flags.DEFINE_float(
    "dual_encoder_scale", None, "What the cosine of question and answer is multiplied by (12)."
)
flags.DEFINE_string(
    "dual_encoder_negatives",
    None,
    "Wrong answers that a right one is set against: those of the batch, or of the whole catalogue "
    "(batch).",
)
flags.DEFINE_integer("matrix_factorization_factors", None, "Numbers that describe an item (8).")
flags.DEFINE_float(
    "matrix_factorization_ridge", None, "Weight of the squared factor of a customer (0.5)."
)
flags.DEFINE_float(
    "matrix_factorization_item_ridge",
    None,
    "Weight of the squared factor of the item of each interaction (0.02).",
)
flags.DEFINE_float(
    "matrix_factorization_unobserved_weight",
    None,
    "Weight of every item as not wanted, against 1 for a chosen one; implicit feedback (1.0).",
)
flags.DEFINE_integer(
    "k_means_restarts", None, "Public starts of k_means at once; the best is kept (8)."
)
flags.DEFINE_string("client_optimizer", "sgd", "Optimizer of the local training.")
flags.DEFINE_float("client_learning_rate", 0.5, "Learning rate of the local training.")
flags.DEFINE_float("client_momentum", None, "Momentum of the client optimizer, where it has one.")
flags.DEFINE_string("server_optimizer", "sgd", "Optimizer that applies the mean update.")
flags.DEFINE_float("server_learning_rate", 2.0, "Learning rate of the server optimizer.")
flags.DEFINE_float("server_momentum", None, "Momentum of the server optimizer, where it has one.")
flags.DEFINE_integer("local_epochs", 1, "Passes of a client over its rows in one round.")
flags.DEFINE_integer("local_steps", None, "At most so many local steps a round.")
flags.DEFINE_integer("batch_size", 8, "Rows in a local batch.")
flags.DEFINE_enum(
    "weighting", "uniform", ["uniform", "examples"], "Weight of a client in the mean."
)
flags.DEFINE_enum(
    "client_execution",
    "auto",
    ["auto", "loop", "stacked"],
    "How a block's clients are trained: in turn, many at once, or what suits the model. The result "
    "is the same up to rounding.",
)
flags.DEFINE_integer(
    "evaluate_every",
    None,
    "Rounds between evaluations on the validation clients (default: 10, and more where evaluations "
    "would take more than a tenth of the training time).",
)
flags.DEFINE_integer(
    "early_finish_patience",
    0,
    "Finish after so many evaluations without a better validation metric; 0: never.",
)
flags.DEFINE_bool(
    "baselines",
    False,
    "Also train the same model without privacy, train it centrally, and score the trivial one.",
)
flags.DEFINE_bool(
    "private_metrics",
    False,
    "Release the training loss and the number of clients of each round with noise, for a share of "
    "the budget (gaussian, adaptive_gaussian).",
)
flags.DEFINE_float(
    "private_metrics_share",
    None,
    "Share of the noise's precision, 1 / variance, that goes to --private_metrics (0.05).",
)
flags.DEFINE_float(
    "private_metrics_loss_bound",
    None,
    "What a client's mean loss is clipped to for --private_metrics (2).",
)
flags.DEFINE_integer(
    "audit_canaries",
    0,
    "Canary clients with random updates that take part as clients do; what the model shows of them "
    "bounds epsilon from below. They cost accuracy as so many useless clients would.",
)
flags.DEFINE_integer("seed", 0, "Seed of the split, the cohorts, the start and the shuffling.")
flags.DEFINE_integer(
    "noise_seed",
    None,
    "Seed of the noise, for exact re-runs; whoever knows it can take the noise away. Without it "
    "the noise key comes from the system's entropy.",
)
flags.DEFINE_integer(
    "num_blocks",
    None,
    "Blocks a cohort is cut into (default: one a core, with --workers two each).",
)
flags.DEFINE_enum(
    "runtime",
    None,
    ["in_process", "worker"],
    "Where TensorFlow computes what --workers do not: in this process, which is faster for small "
    "models, or in a TFF worker process (default: in_process).",
)
flags.DEFINE_list(
    "workers",
    None,
    "Workers that the clients' training is spread over, as host:port,host:port; start each with "
    "python -m experiments.worker. A run may go on with others.",
)
flags.DEFINE_float(
    "worker_timeout_seconds",
    worker_addresses.DEFAULT_TIMEOUT_SECONDS,
    "Longest time that a worker, the local one too, may take for one call; a round is one call. (A "
    "remote worker that does not answer at all is noticed within 30 seconds.)",
)
flags.DEFINE_integer(
    "projection_population",
    None,
    "Also state epsilon if so many clients were drawn from, with the same noise and cohorts; the "
    "report marks it as a projection.",
)
flags.DEFINE_string("output_dir", "runs", "Folder of all runs.")
flags.DEFINE_string(
    "run_name", None, "This run's folder in --output_dir (default: made from the flags)."
)
flags.DEFINE_string(
    "search",
    None,
    "Name of the hyperparameter search that this run is a trial of; experiments."
    "search_hyperparameters gives it.",
)
flags.DEFINE_bool(
    "plan_only", False, "Print what the planned rounds would cost, as JSON, and train nothing."
)
_WHERE_ONLY = {
    *("output_dir", "run_name", "flagfile", "undefok", "plan_only"),
    *("workers", "worker_timeout_seconds"),
}


def as_typed(value: Any) -> str:
    """Returns a flag's value as it is typed on a command line."""
    return ",".join(value) if isinstance(value, list) else str(value)


def flags_text(binary: str) -> str:
    """Returns every flag that shapes the run as the text of a flag file, in order of names.

    Flags that only say where the run goes, or where it computes, are left out, and flags without a
    value. Passwords in an address are hidden: give them in another way, such as PGPASSWORD.

    Args:
      binary: The module of the binary, whose key flags these are.
    """
    shaping = {
        flag.name: flag.value
        for flag in FLAGS.get_key_flags_for_module(binary)
        if flag.name not in _WHERE_ONLY and flag.value is not None
    }
    if shaping.get("data"):
        from fl_research.data.sources import redact  # Slow to import; --help needs none.

        shaping["data"] = redact(shaping["data"])
    return "".join(f"--{name}={as_typed(shaping[name])}\n" for name in sorted(shaping))


def run_name(use_case: str, text: str) -> str:
    """Returns --run_name, or a name made from the flags: the same flags find the same run.

    Args:
      use_case: The first part of a made name.
      text: From `flags_text`.
    """
    if FLAGS.run_name:
        if FLAGS.run_name in (".", "..") or "/" in FLAGS.run_name:
            raise InputError(
                f"--run_name={FLAGS.run_name} is no name of a folder; give the path before it as "
                "--output_dir"
            )
        return str(FLAGS.run_name)
    return f"{use_case}-{hashlib.sha256(text.encode('utf-8')).hexdigest()[:10]}"
