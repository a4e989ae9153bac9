"""Service automation: what does the customer want, and which answer fits?

Trains a model of customers' questions with DP-FedAvg on TensorFlow Federated: the questions stay
with the customers, and no vocabulary is built from their words (n-grams are hashed). It answers
where it is sure and hands over to a person where it is not. Without any flag it learns the intents
of generated questions:

    python -m experiments.service_automation
    python -m experiments.service_automation --task=answers --model=dual_encoder
    python -m experiments.service_automation \\
        --flagfile=experiments/flagfiles/service_banking77.flags
    python -m experiments.service_automation --dataset=table --data=questions.csv \\
        --text_column=question --label_column=topic --client_column=customer --infer_schema \\
        --delta=1e-5
    python -m experiments.service_automation --run_name=NAME --ask="Where is my card?"

The same flags again go on with an interrupted run.
"""

from typing import TYPE_CHECKING

from absl import flags

from experiments import data_flags, experiment_flags, service_flags, text_flags
from experiments.command_line import run_binary
from experiments.use_case import UseCase

if TYPE_CHECKING:
    from fl_research.task import FederatedTask

FLAGS = flags.FLAGS

for module in (experiment_flags, data_flags, text_flags, service_flags):
    flags.adopt_module_key_flags(module)


def load(seed: int) -> "FederatedTask":
    """Loads the data that the flags name."""
    from experiments.load_service import load_service  # Slow to import; --help needs none.

    return load_service(USE_CASE, seed)


USE_CASE = UseCase(
    name="service_automation",
    datasets={"synthetic": "synthetic_questions", "banking77": "banking77"},
    load=load,
    defaults={"model": "hashed_linear", "client_learning_rate": 4.0},
)


def main(argv: list[str]) -> None:
    """Runs the use case that the flags describe, or answers --ask."""
    del argv
    if FLAGS.ask is not None:
        from experiments.answer_question import answer_question

        answer_question()
        return
    from experiments.run_experiment import run_experiment  # Slow to import; --help needs none.

    run_experiment(USE_CASE)


if __name__ == "__main__":
    run_binary(main, USE_CASE)
