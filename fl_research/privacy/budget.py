"""The budget gate: may one more release happen without passing the target epsilon?

The gate asks the plan what the releases cost, with the accountant that the report uses. Rounds
that are released once cost the same whichever they are, and epsilon only rises with their number,
so what is known of one number answers most questions without accounting again. A run is mostly
planned to fit as a whole: that is asked first, and then no round waits for an accountant.
"""

from collections.abc import Sequence

import dp_accounting

from fl_research.data.client_sampling import ClientSampling
from fl_research.errors import InputError
from fl_research.privacy.accounting_rules.independent import Rule as IndependentRule
from fl_research.privacy.accounting_rules.rule import AccountingRule
from fl_research.privacy.composition import JITTER
from fl_research.privacy.releases import Release
from fl_research.privacy.worst_case import all_fit


class BudgetGate:
    """Decides before each round whether its release still fits the target.

    Args:
      expected_release_event: What one release emits, relative to the clip.
      sampling: The sampler of all cohorts.
      target_epsilon: The budget; None lets everything through.
      delta: In (0, 1).
      planned_rounds: The rounds that the run is planned for.
      rule: How the releases add up.

    Raises:
      InputError: A target was set for a mechanism that gives no guarantee.
    """

    def __init__(
        self,
        *,
        expected_release_event: dp_accounting.DpEvent | None,
        sampling: ClientSampling,
        target_epsilon: float | None,
        delta: float | None,
        planned_rounds: int = 0,
        rule: AccountingRule | None = None,
    ) -> None:
        if target_epsilon is not None and (expected_release_event is None or delta is None):
            raise InputError(
                f"target_epsilon={target_epsilon} needs a private mechanism and a delta; "
                "leave target_epsilon out or choose another mechanism"
            )
        self._release_event = expected_release_event
        self._sampling = sampling
        self._rule = rule or IndependentRule()
        self._relation, _ = self._rule.relation(sampling)
        self._target = target_epsilon
        self._delta = delta
        self._planned = planned_rounds
        self._fits = 0
        self._exceeds: int | None = None

    def allows(self, rounds: Sequence[int]) -> bool:
        """Tells whether releases of these rounds, all together, stay within the target.

        Args:
          rounds: The round of each release there would be; a repeated round as often as released.
        """
        if self._target is None:
            return True
        if len(set(rounds)) < len(rounds):
            return self._fit(rounds)
        if self._planned:
            planned, self._planned = self._planned, 0
            self._fits = planned if self._fit_with_less_noise(planned) else 0
        if len(rounds) > self._fits and (self._exceeds is None or len(rounds) < self._exceeds):
            if self._fit(rounds):
                self._fits = len(rounds)
            else:
                self._exceeds = len(rounds)
        return len(rounds) <= self._fits

    def _fit_with_less_noise(self, count: int) -> bool:
        """Whether so many rounds fit, asked as the calibration does, whose answer is kept."""
        assert self._release_event and self._delta is not None and self._target is not None
        noise = self._rule.noise_multiplier(self._release_event)
        event = self._rule.release_event(noise * (1 - JITTER))
        events = self._rule.planned_events(event, count, self._sampling)
        return all_fit(events, self._delta, self._relation, self._target)

    def _fit(self, rounds: Sequence[int]) -> bool:
        """Whether releases of these rounds cost at most the target."""
        assert self._release_event and self._delta is not None and self._target is not None
        releases = [Release(number, self._release_event) for number in rounds]
        events = self._rule.events(releases, self._sampling)
        return all_fit(events, self._delta, self._relation, self._target)
