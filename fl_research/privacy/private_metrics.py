"""Training metrics that are released with noise, for a stated share of the privacy budget.

A client that takes part hands in, beside its update, its mean training loss, clipped to [0, bound],
and a one for being there. The vector (loss / bound, 1) / sqrt(2) has an L2 norm of at most 1, so
that one client moves the sum of these vectors as far as a clipped update moves the sum of updates
in clip norms. Both sums get Gaussian noise in the same release, and share its budget: with a total
noise multiplier z and a share s of the precision z**-2, the metrics get z / sqrt(s) and the update
z / sqrt(1 - s), which together cost exactly what one Gaussian with multiplier z costs. The mean
loss of a round is the noised sum of losses divided by the noised number of clients.

The split of the budget is that of Andrew et al. 2021, Differentially Private Learning with Adaptive
Clipping, arXiv:1905.03871, theorem 1; the noise is in `privacy.private_metrics_query`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from fl_research.argument_checks import is_finite_number, require_positive
from fl_research.errors import InputError

if TYPE_CHECKING:
    import tensorflow_privacy as tfp

    from fl_research.privacy.accounting_rules.rule import AccountingRule
    from fl_research.privacy.plan import NoiseKey, PrivacyPlan

_DETAILS = "private_metrics"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivateMetrics:
    """How metrics are made private.

    Attributes:
      share: The metrics' share of the precision of all noise, between 0 and 1, neither included.
      loss_bound: What a client's mean loss is clipped to, above 0.

    Raises:
      InputError: A value is out of range.
    """

    share: float = 0.05
    loss_bound: float = 2.0

    def __post_init__(self) -> None:
        if not is_finite_number(self.share) or not 0 < self.share < 1:
            raise InputError(
                f"private_metrics_share={self.share!r} is not possible; give a number above 0 and "
                "below 1, such as 0.05"
            )
        require_positive("private_metrics_loss_bound", self.loss_bound)

    def update_multiplier(self, total: float) -> float:
        """Returns the noise multiplier that is left for the update, of a total for both.

        Raises:
          InputError: The total is zero: no noise, and nothing to share.
        """
        if total == 0:
            raise InputError(
                "noise_multiplier=0 does not go with private_metrics, which would have no noise "
                "either; give a noise multiplier above 0, or leave private_metrics out"
            )
        return total / math.sqrt(1 - self.share)

    def total_multiplier(self, update_multiplier: float) -> float:
        """Returns the noise multiplier of update and metrics together."""
        return update_multiplier * math.sqrt(1 - self.share)

    def metrics_multiplier(self, update_multiplier: float) -> float:
        """Returns the metrics' noise multiplier beside the update's."""
        return self.total_multiplier(update_multiplier) / math.sqrt(self.share)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleasedMetrics:
    """What one round released of its training metrics, both with noise.

    Attributes:
      loss_sum: The sum of the clients' clipped mean losses.
      clients: The number of clients in it; noise can make it negative.
    """

    loss_sum: float
    clients: float

    @property
    def mean_loss(self) -> float:
        """The mean loss; divided by one where the noised number is less."""
        return self.loss_sum / max(self.clients, 1.0)


def require_shared_gaussian(mechanism: str, rule: AccountingRule, *, has_noise: bool) -> None:
    """Checks that a mechanism's budget can be shared with the metrics.

    Args:
      mechanism: Its name, for the message.
      rule: How its releases add up.
      has_noise: Whether it adds any.

    Raises:
      InputError: The noise is not Gaussian, fresh in each release, and at the server.
    """
    if has_noise and rule.to_dict() == {"name": "independent", "noise": "gaussian"}:
        return
    reason = "has no noise" if not has_noise else "has no fresh Gaussian noise at the server"
    raise InputError(
        f"private_metrics=True does not go with mechanism={mechanism}, which {reason} whose "
        "budget the metrics could share; use gaussian or adaptive_gaussian, or leave "
        "private_metrics out"
    )


def with_private_metrics(plan: PrivacyPlan, metrics: PrivateMetrics) -> PrivacyPlan:
    """Returns the plan whose releases hold noised training metrics too.

    Args:
      plan: The plan without them; its noise multiplier is the update's, as `update_multiplier`
        gives it.
      metrics: Share and bound.

    Raises:
      InputError: The plan's noise cannot be shared.
    """
    import dp_accounting

    expected = plan.expected_release_event
    require_shared_gaussian(plan.mechanism, plan.rule, has_noise=expected is not None)
    assert expected is not None, "checked before"
    update_multiplier = plan.rule.noise_multiplier(expected)
    total = metrics.total_multiplier(update_multiplier)
    if total == 0:
        metrics.update_multiplier(total)  # Raises.
    multiplier = metrics.metrics_multiplier(update_multiplier)

    def query_for(noise_key: NoiseKey, update_specs: Any) -> tfp.DPQuery:
        """The plan's query, and the metrics beside it."""
        from fl_research.privacy.private_metrics_query import PrivateMetricsQuery

        return PrivateMetricsQuery(
            plan.query_for(noise_key, update_specs),
            loss_bound=metrics.loss_bound,
            noise_multiplier=multiplier,
            noise_key=noise_key,
        )

    of_update = (
        expected.events if isinstance(expected, dp_accounting.ComposedDpEvent) else [expected]
    )
    facts = {
        "share": metrics.share,
        "loss_bound": metrics.loss_bound,
        "noise_multiplier": multiplier,
        "update_noise_multiplier": update_multiplier,
    }
    return dataclasses.replace(
        plan,
        query_for=query_for,
        expected_release_event=dp_accounting.ComposedDpEvent(
            [*of_update, dp_accounting.GaussianDpEvent(multiplier)]
        ),
        details={**plan.details, "noise_multiplier": total, _DETAILS: facts},
    )


def released_metrics(plan: PrivacyPlan, query_state: Any) -> ReleasedMetrics | None:
    """Returns the metrics of the release that a query state comes from.

    Args:
      plan: The run's plan.
      query_state: The query's global state after the release.

    Returns:
      The metrics with their noise; None for a plan without private metrics, whose metrics are
      recorded as they are.
    """
    if _DETAILS not in plan.details:
        return None
    while not hasattr(query_state, "released"):  # Another query may be around, as in an audit.
        query_state = query_state.inner
    loss_sum, clients = (float(value) for value in query_state.released)
    return ReleasedMetrics(loss_sum=loss_sum, clients=clients)
