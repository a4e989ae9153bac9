"""Feature effects: how much worse the model gets when a column no longer says anything.

Permutation importance shuffles a column over the rows and takes the loss of the metric as the
column's importance. Clients have few rows, often one, and rows of different clients must not meet,
so that the shuffle is done in another way: a federated sum first gives each column's marginal
distribution over the test clients (`column_marginals`), then each client replaces the column in its
own rows by independent draws from that marginal, and only the sums of the evaluation leave it. A
draw from the marginal is what a shuffle gives a row in expectation, so that both agree but for
noise. Inputs that stand for one category are replaced together.

An effect is what the *model* uses: of two columns that say the same, one may have it all, and none
of it is a cause.

Papers: Breiman 2001, "Random Forests"; Fisher, Rudin and Dominici 2019, "All Models are Wrong, but
Many are Useful".
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fl_research import metric_table, randomness
from fl_research.argument_checks import require_at_least
from fl_research.data.client_data import ClientData
from fl_research.data.input_columns import InputColumn, input_columns
from fl_research.data.schema import Schema

if TYPE_CHECKING:
    from fl_research.analysis import AnalysisContext


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureEffects:
    """The drop of the primary metric when a column is replaced by draws from its marginal.

    Attributes:
      repeats: How often each column is drawn anew, 2 or more; the spread is over these.
      max_clients: Test clients at most; a uniform choice of more.

    Raises:
      InputError: A number that is too small.
    """

    name: ClassVar[str] = "feature_effects"

    repeats: int = 5
    max_clients: int = 20_000

    def __post_init__(self) -> None:
        require_at_least("repeats", self.repeats, 2)
        require_at_least("max_clients", self.max_clients, 1)

    def __call__(self, context: AnalysisContext) -> dict[str, Any]:
        """Returns the effects, largest first, with the metric, its value and what was summed.

        Args:
          context: The trained model and its task, whose preparation has the schema of the table.
        """
        from fl_research.analyses.column_marginals import marginals  # brings TensorFlow in

        columns = input_columns(Schema.from_dict(context.task.preparation["schema"]))
        clients = some_test_clients(context, self.max_clients)
        metric = context.objective.primary_metric
        sign = metric_table.sign(metric)
        base = context.evaluate(clients)[metric]
        of_columns = marginals(clients, columns, num_blocks=context.num_blocks)
        original = np.asarray(clients.features["inputs"])
        changed = original.copy()
        features = {**clients.features, "inputs": changed}
        replaced = dataclasses.replace(clients, features=features)
        effects = []
        for column in columns:
            inputs, drops = slice(column.start, column.stop), []
            for repeat in range(self.repeats):
                generator = randomness.generator(context.seed, f"effect of {column.name}", repeat)
                changed[:, inputs] = of_columns[column.name].draw(len(changed), generator)
                drops.append(sign * (base - context.evaluate(replaced)[metric]))
            changed[:, inputs] = original[:, inputs]
            effects.append(_effect(column, drops))
        return {
            "metric": metric,
            "base": base if math.isfinite(base) else None,
            "repeats": self.repeats,
            "clients": clients.num_clients,
            "rows": clients.num_rows,
            "columns": sorted(effects, key=lambda effect: -(effect["effect"] or 0.0)),
        }


def some_test_clients(context: AnalysisContext, max_clients: int) -> ClientData:
    """Returns the test clients in memory, or a uniform choice of so many of them.

    Args:
      context: Its task has the test clients, its seed makes the choice.
      max_clients: How many at most.
    """
    test = context.task.test
    chosen = np.arange(test.num_clients)
    if len(chosen) > max_clients:
        generator = randomness.generator(context.seed, "test_clients_of_effects")
        chosen = np.sort(generator.choice(chosen, max_clients, replace=False))
    return test.select(chosen)


def _effect(column: InputColumn, drops: list[float]) -> dict[str, Any]:
    """One column's mean drop and its standard deviation over repeats; None where undefined."""
    defined = all(map(math.isfinite, drops))
    return {
        "column": column.name,
        "effect": float(np.mean(drops)) if defined else None,
        "spread": float(np.std(drops, ddof=1)) if defined else None,
    }
