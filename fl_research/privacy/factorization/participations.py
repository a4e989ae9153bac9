"""How often one client can take part: a limit on the count, and rounds between two participations.

A client takes part in at most `max_participations` rounds, and rounds i < j in which it does are at
least `min_separation` apart: j - i >= min_separation. A separation of 1 allows every round.

Choquette-Choo, Ganesh, McKenna, McMahan, Rush, Thakurta, Xu 2023, (Amplified) Banded Matrix
Factorization: A unified approach to private training.
"""

from fl_research.argument_checks import require_at_least


def most_participations(
    *, rounds: int, min_separation: int, max_participations: int | None = None
) -> int:
    """Returns the largest number of rounds in which one client can take part.

    Args:
      rounds: Rounds of the run, 1 or more.
      min_separation: Rounds from one participation to the next, 1 or more.
      max_participations: 1 or more; None for no limit but the separation.

    Raises:
      InputError: A number is below 1 or no whole number.
    """
    require_at_least("rounds", rounds, 1)
    require_at_least("min_separation", min_separation, 1)
    possible = -(-rounds // min_separation)
    if max_participations is None:
        return possible
    require_at_least("max_participations", max_participations, 1)
    return min(possible, max_participations)
