"""The benchmark's driver for this project."""

import contextlib
from typing import Any

import numpy as np

from benchmarks.systems.protocol import serve
from benchmarks.systems.tff_system import CohortOfRound, TffSystem
from benchmarks.workloads import Workload
from fl_research.data.blocks import cut_into_blocks
from fl_research.data.client_data import ClientData
from fl_research.data.client_sampling import ClientSampling, build_client_sampling
from fl_research.runtime.in_process import in_process_runtime

_SEED = 1


class Ours(TffSystem):
    """A round over blocks of clients, one block a core, with the Gaussian mechanism."""

    def build(self, workload: Workload, threads: int) -> tuple[Any, CohortOfRound]:
        """Puts model, client update and query together as an experiment does."""
        from benchmarks.systems.ours_models import build_model
        from fl_research.learning.aggregation import update_specs
        from fl_research.learning.client_update_config import ClientUpdateConfig
        from fl_research.learning.learning_process import build_learning_process
        from fl_research.learning.optimizers import OptimizerConfig, build_optimizer
        from fl_research.privacy.mechanisms import gaussian
        from fl_research.privacy.plan import PlanSetting

        plan = gaussian.make_plan(
            gaussian.Config(
                clip_norm=workload.clip_norm, noise_multiplier=workload.noise_multiplier
            ),
            PlanSetting(sampling=_sampling(workload), noise_key=(1, 2)),
        )
        model = build_model(workload)
        process = build_learning_process(
            model,
            client_update=ClientUpdateConfig(batch_size=workload.batch_size, shuffle=False),
            client_optimizer=build_optimizer(
                OptimizerConfig(learning_rate=workload.client_learning_rate)
            ),
            query=plan.query(update_specs(model)),
            server_optimizer=build_optimizer(
                OptimizerConfig(learning_rate=workload.server_learning_rate)
            ),
        )
        data = ClientData(
            workload.features,
            workload.labels,
            workload.row_splits,
            np.arange(workload.num_clients),
        )

        def cohort_of_round(round_number: int) -> Any:
            return cut_into_blocks(
                data,
                workload.cohort(round_number),
                num_blocks=threads,
                seed=_SEED,
                round_number=round_number,
            )

        return process, cohort_of_round

    def runtime(self) -> contextlib.AbstractContextManager[Any]:
        """In this process, as experiments are by default."""
        # The harness keeps standard error in a log already.
        return in_process_runtime(redirect_stderr=False)

    def note(self, workload: Workload) -> str:
        """Says how the cohort is spread."""
        del workload
        return "one block of clients a core; rows not shuffled"


def _sampling(workload: Workload) -> ClientSampling:
    """Returns the sampling that the plan is for; the cohorts come from the workload."""
    return build_client_sampling(
        "poisson" if workload.poisson else "fixed_size",
        population=workload.num_clients,
        clients_per_round=workload.expected_cohort_size,
    )


if __name__ == "__main__":
    serve(Ours())
