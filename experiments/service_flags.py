"""Flags of service_automation; `load_service` and `answer_question` read them.

Only absl is imported, so that `--help` answers at once.
"""

from absl import flags

from experiments import run_flags

flags.DEFINE_string(
    "task",
    "intents",
    "intents: which intent a question has; answers: which answer of a public catalogue fits.",
)
flags.DEFINE_string(
    "answer_column", None, "Column of the answer's text, for --task=answers on your own table."
)
flags.DEFINE_string(
    "out_of_scope_label",
    None,
    "Value of the label of questions that nobody should answer: never trained on, they measure "
    "what is handed to a person.",
)
flags.DEFINE_integer(
    "out_of_scope_intents",
    None,
    "Hold so many intents out of the training, chosen by the seed, as foreign ones (banking77).",
)
flags.DEFINE_float(
    "keep_in_scope",
    0.95,
    "Share of the validation clients' questions that the model answers; it sets the confidence "
    "below which a question goes to a person.",
)
flags.DEFINE_string(
    "ask", None, "A question: a finished run's model answers it at once, nothing is trained."
)
flags.adopt_module_key_flags(run_flags)  # That run (or name it by --run_name).
