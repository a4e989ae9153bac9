"""The benchmark's driver for stock TFF, at the settings that were measured to be its fastest.

The two that matter are not TFF's defaults: the training loop over a dataset iterator instead of
`Dataset.reduce`, and datasets without autotuning and graph optimisation, both of which cost more
per client than a client's few batches take. Every client's dataset is made before the first round.
The driver `stock_tff_defaults` leaves both at their defaults.
"""

import collections
import contextlib
from typing import Any

from benchmarks.systems.protocol import serve
from benchmarks.systems.tff_system import CohortOfRound, TffSystem
from benchmarks.workloads import Workload
from fl_research import runtime


class StockTff(TffSystem):
    """`build_unweighted_fed_avg` with a functional model and `DifferentiallyPrivateFactory`."""

    loop_implementation = "DATASET_ITERATOR"
    tuned_datasets = True

    def build(self, workload: Workload, threads: int) -> tuple[Any, CohortOfRound]:
        """Builds the process and all datasets; the worker uses every core that it may."""
        import tensorflow_federated as tff

        from benchmarks.systems.stock_tff_models import build_model

        del threads
        process = tff.learning.algorithms.build_unweighted_fed_avg(
            build_model(workload),
            client_optimizer_fn=tff.learning.optimizers.build_sgdm(workload.client_learning_rate),
            server_optimizer_fn=tff.learning.optimizers.build_sgdm(workload.server_learning_rate),
            model_aggregator=tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(
                noise_multiplier=workload.noise_multiplier,
                clients_per_round=workload.expected_cohort_size,
                clip=workload.clip_norm,
            ),
            loop_implementation=tff.learning.LoopImplementation[self.loop_implementation],
        )
        datasets = [self._dataset(workload, client) for client in range(workload.num_clients)]
        return process, lambda round_number: [datasets[k] for k in workload.cohort(round_number)]

    def runtime(self) -> contextlib.AbstractContextManager[Any]:
        """In TFF's worker, which alone runs datasets."""
        # The harness keeps standard error in a log already.
        return runtime.local_runtime(redirect_stderr=False)

    def note(self, workload: Workload) -> str:
        """Says which settings are used."""
        datasets = (
            "autotuning and graph optimisation off" if self.tuned_datasets else "as they come"
        )
        gru = "; GRU of plain operations, unrolled" if workload.name == "gru" else ""
        return f"loop {self.loop_implementation}, datasets made ahead, {datasets}{gru}"

    def _dataset(self, workload: Workload, client: int) -> Any:
        """Returns the batches of one client."""
        import tensorflow as tf

        features, labels = workload.client(client)
        rows = tf.data.Dataset.from_tensor_slices((collections.OrderedDict(features), labels))
        batches = rows.batch(workload.batch_size)
        if not self.tuned_datasets:
            return batches
        options = tf.data.Options()
        options.autotune.enabled = False
        options.experimental_optimization.apply_default_optimizations = False
        return batches.with_options(options)


if __name__ == "__main__":
    serve(StockTff())
