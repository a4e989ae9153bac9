"""Flags of customer_profile, and the defaults that follow from its task; only absl is imported."""

from typing import Any

from absl import flags

FLAGS = flags.FLAGS

flags.DEFINE_enum(
    "profile_task",
    "segments",
    ["segments", "worth"],
    "segments: which kinds of customers there are (k_means). worth: who is worth much "
    "(logistic_regression or mlp on the label, with a last layer of its own for each department).",
)
flags.DEFINE_enum(
    "profile_client",
    None,
    ["customer", "department"],
    "Who is a client: each row (customer; right only where a row is a customer), or all rows with "
    "the same value of the client column (department). Default: customer for segments, but a table "
    "of your own with a client column needs a choice; department for worth.",
)
flags.DEFINE_integer(
    "segments", None, "How many segments, 2 or more (5); for --profile_task=segments."
)
flags.DEFINE_string(
    "segment_column",
    None,
    "Column with the true segment, to compare with by the adjusted Rand index; it is no feature. "
    "For --profile_task=segments with --dataset=table.",
)
flags.DEFINE_integer(
    "min_rows_per_department",
    None,
    "Departments with fewer training rows do not train (all train), and their validation and test "
    "rows are left out too. "
    "Under client_dpsgd the smallest department decides how much noise all of them need.",
)

_WHOLE_CLIENT = 1_000_000  # A batch larger than any department.
_SEGMENTS = {
    "model": "k_means",
    "client_optimizer": "sgd",
    "client_learning_rate": 1.0,
    "server_optimizer": "lloyd",
    "server_learning_rate": 1.0,
    "sampling": "full",
    "rounds": 12,
}
_WORTH_OF_DEPARTMENTS = {
    "sampling": "full",
    "client_learning_rate": 0.5,
    "server_learning_rate": 1.0,
    "batch_size": 128,
    "rounds": 30,
}
# Of eight starts the update of one row has a norm of about 4.5 on the generated customers.
_CLIP_NORM = {"segments": 4.0, "worth": 1.0}


def client_of_task() -> str:
    """Returns who is a client: --profile_client, or what suits the task."""
    if FLAGS.profile_client is not None:
        return str(FLAGS.profile_client)
    if FLAGS.profile_task == "worth" and FLAGS.partition == "natural":
        return "department"
    return "customer"


def set_task_defaults() -> None:
    """Sets the defaults of the flags that depend on the task, after flags are parsed."""
    task, client = FLAGS.profile_task, client_of_task()
    defaults: dict[str, Any] = {}
    if task == "segments":
        defaults |= _SEGMENTS
        # One row a customer; and a batch that is all of a client's rows, one after the other.
        is_row = client == "customer" and FLAGS.partition == "natural"
        defaults["batch_size"] = 1 if is_row else _WHOLE_CLIENT
        defaults["client_execution"] = "auto" if is_row else "loop"
    elif client == "department":
        defaults |= _WORTH_OF_DEPARTMENTS
    if client == "department":
        defaults["mechanism"] = "client_dpsgd"
    for name, value in defaults.items():
        FLAGS.set_default(name, value)
    if FLAGS.mechanism == "none":
        FLAGS.set_default("weighting", "examples")
    elif FLAGS.clip_norm is None:
        FLAGS.set_default("clip_norm", _CLIP_NORM[task])
