"""Flags of the privacy question, shared by every binary that runs or plans rounds.

Only absl is imported, so that `--help` answers at once.
"""

from absl import flags

flags.DEFINE_string(
    "mechanism",
    "gaussian",
    "none, gaussian, adaptive_gaussian, laplace, tree_aggregation, banded_matrix_factorization, "
    "buffered_toeplitz, local_gaussian (noise at the clients) or client_dpsgd (for each record).",
)
flags.DEFINE_integer(
    "restart_every", None, "Rounds of one tree of tree_aggregation (default: all rounds)."
)
flags.DEFINE_integer(
    "bands",
    None,
    "Bands of banded_matrix_factorization, and models its noise remembers (--min_separation).",
)
flags.DEFINE_integer("buffers", None, "Models that the noise of buffered_toeplitz remembers (3).")
flags.DEFINE_enum(
    "sampling",
    "poisson",
    ["poisson", "fixed_size", "full", "min_separation"],
    "How a round's clients are chosen.",
)
flags.DEFINE_integer(
    "min_separation",
    None,
    "Rounds from one participation of a client to its next, for --sampling=min_separation.",
)
flags.DEFINE_integer(
    "max_participations",
    None,
    "Rounds that a client takes part in at most, for --sampling=min_separation.",
)
flags.DEFINE_float(
    "clients_per_round", None, "Clients in a cohort; the expected number under Poisson sampling."
)
flags.DEFINE_float(
    "sampling_rate",
    None,
    "A client's probability to be in a cohort, instead of --clients_per_round (a run takes 0.1 "
    "where neither is given).",
)
flags.DEFINE_integer(
    "rounds", None, "Rounds; each releases one noised sum (a run takes 100 where not given)."
)
flags.DEFINE_float(
    "noise_multiplier", None, "Noise on the sum of updates, standard deviation / clip norm."
)
flags.DEFINE_float(
    "target_epsilon",
    None,
    "The epsilon not to pass (a run takes 2 where --noise_multiplier is not given either).",
)
flags.DEFINE_float(
    "delta",
    None,
    "Delta of the guarantee, well below 1 / number of clients (a run on named data takes 1e-5).",
)
