"""Tree aggregation: how far one client can move all nodes together, and the noise of prefix sums.

The rounds are the leaves of binary trees; every `restart_every` rounds a new tree starts. A node of
level h covers 2^h rounds of its tree. Nodes that are complete within the rounds that ran are
released, each with noise of its own; a prefix sum is put together from them. A client that takes
part n times under a node moves its sum by n clip norms, so that the squared sensitivity of all the
nodes is the largest sum of n^2 over the nodes.

The search for that largest sum goes through the rounds from the first to the last. Nodes with no
more rounds than the separation hold one participation at most. Moving a participation to an earlier
round under the same smallest larger node changes no count of larger nodes and loses no complete
small one. So only two rounds need to be tried after a participation: the first that the separation
allows, and the start of any later smallest larger node. A state is the next round that is tried,
the participations that are left, and the counts under the larger nodes that are open there.
For the rest of the rounds an upper bound is the sum, over levels, of what the level could gain if
it were alone; states whose bound does not exceed a known sum are dropped. Where more states stay
than a limit, the best are kept and the largest bound of the others is remembered: the result is
then an upper bound instead of the exact value.

Kairouz, McMahan, Song, Thakkar, Thakurta, Xu 2021, Practical and Private (Deep) Learning without
Sampling or Shuffling (appendix D: the sensitivity with and without restarts); Honaker 2015,
Efficient Use of Differentially Private Binary Trees (the estimator from below).
"""

import dataclasses
import functools
import math
from collections.abc import Iterator

import numpy as np

from fl_research.argument_checks import require_at_least
from fl_research.privacy.factorization.participations import most_participations

_WIDTHS = (8, 64, 512)  # A narrow search is quick and often enough.
_MOST_STATES = 15_000

Counts = tuple[int, ...]
State = tuple[int, Counts]  # Participations that are left; counts under the open larger nodes.


@dataclasses.dataclass(frozen=True)
class TreeSensitivity:
    """How far one client can move all the nodes together.

    Attributes:
      squared: The squared L2 distance, in units of the squared clip norm.
      exact: Whether it is attained; otherwise it is an upper bound.
    """

    squared: int
    exact: bool


@functools.lru_cache(maxsize=256)
def squared_tree_sensitivity(
    *,
    rounds: int,
    restart_every: int | None,
    max_participations: int | None,
    min_separation: int,
) -> TreeSensitivity:
    """Returns the largest sum, over complete nodes, of squared participations under the node.

    Args:
      rounds: Rounds of the run, 1 or more.
      restart_every: Rounds of one tree, 1 or more; None for a single tree.
      max_participations: Most rounds with one client, 1 or more; None for no limit.
      min_separation: Rounds from one participation to the next, 1 or more.

    Raises:
      InputError: A number is out of range.
    """
    participations = most_participations(
        rounds=rounds, min_separation=min_separation, max_participations=max_participations
    )
    search = _Search(rounds, _rounds_of_a_tree(rounds, restart_every), min_separation)
    known, bound = 0, math.inf
    for width in _WIDTHS:
        known, new_bound = search.run(participations, width=width, known=known)
        bound = min(bound, new_bound)
        if known == bound:
            break
    return TreeSensitivity(int(bound), exact=known == bound)


def prefix_errors(*, rounds: int, restart_every: int | None, efficient: bool) -> np.ndarray:
    """Returns the variance of the noise on each prefix sum, for nodes with noise of variance 1.

    The sums of finished trees stay in every later prefix sum, with their noise.

    Args:
      rounds: Rounds of the run, 1 or more.
      restart_every: Rounds of one tree, 1 or more; None for a single tree.
      efficient: Whether a node is estimated from all nodes below it as well, which gives a node of
        level h the variance 1 / (2 - 2^-h); otherwise a node is its own noisy sum.

    Returns:
      float64[rounds].

    Raises:
      InputError: A number is out of range.
    """
    require_at_least("rounds", rounds, 1)
    tree = _rounds_of_a_tree(rounds, restart_every)
    finished, done = np.divmod(np.arange(1, rounds + 1), tree)

    def of_one_tree(leaves: np.ndarray) -> np.ndarray:
        variance = np.zeros(len(leaves))
        for level in range(tree.bit_length()):
            node = 1 / (2 - 0.5**level) if efficient else 1.0
            variance += node * (leaves >> level & 1)
        return variance

    return finished * of_one_tree(np.array([tree])) + of_one_tree(done)


def _rounds_of_a_tree(rounds: int, restart_every: int | None) -> int:
    """The rounds of a tree that is not the last one."""
    if restart_every is None:
        return rounds
    require_at_least("restart_every", restart_every, 1)
    return min(restart_every, rounds)


class _Search:
    """Goes through the rounds with the best states; see the module's first lines."""

    def __init__(self, rounds: int, tree: int, min_separation: int) -> None:
        """Prepares what does not depend on the number of participations.

        Args:
          rounds: Rounds of the run.
          tree: Rounds of a tree, at most `rounds`.
          min_separation: Rounds from one participation to the next.
        """
        self._rounds, self._tree, self._separation = rounds, tree, min_separation
        top = tree.bit_length() - 1
        self._small = range(min(min_separation.bit_length() - 1, top) + 1)
        self._large = range(min_separation.bit_length(), top + 1)
        self._open_nodes = functools.cache(self._find_open_nodes)
        self._room = functools.cache(self._find_room)
        self._most_under = [-(-(1 << level) // min_separation) for level in self._large]

    def run(self, participations: int, *, width: int, known: int) -> tuple[int, int]:
        """Returns the largest sum that was found, and an upper bound of all sums.

        Args:
          participations: Most participations.
          width: States to keep at one round.
          known: A sum that is attained.
        """
        dropped = tried = 0
        pending: dict[int, dict[State, int]] = {0: {(participations, (0,) * len(self._large)): 0}}
        for position in range(self._rounds):
            bounded = [
                (value + self._most_to_come(position, *state), value, state)
                for state, value in pending.pop(position, {}).items()
            ]
            bounded = sorted((entry for entry in bounded if entry[0] > known), reverse=True)
            tried += len(bounded)
            kept = bounded[: width if tried < _MOST_STATES else 1]
            dropped = max([dropped, *(entry[0] for entry in bounded[len(kept) :][:1])])
            for _, value, state in kept:
                for later, later_state, later_value in self._moves(position, *state, value):
                    known = max(known, later_value)
                    if later < self._rounds and later_state[0]:
                        states = pending.setdefault(later, {})
                        states[later_state] = max(states.get(later_state, 0), later_value)
        return known, max(known, dropped)

    def _moves(
        self, position: int, left: int, counts: Counts, value: int
    ) -> Iterator[tuple[int, State, int]]:
        """The states after a participation at a round and after none: round, state, sum."""
        counts_with = tuple(count + 1 for count in counts)
        for later, later_left, later_counts, gain in (
            (self._next_start(position), left, counts, 0),
            (position + self._separation, left - 1, counts_with, self._gain(position, counts)),
        ):
            most = max(0, -(-(self._rounds - later) // self._separation))
            state = min(later_left, most), self._carried(position, later, later_counts)
            yield later, state, value + gain

    def _carried(self, position: int, later: int, counts: Counts) -> Counts:
        """The counts of the nodes that are open at both rounds; 0 for the others."""
        nodes = zip(self._open_nodes(position), self._open_nodes(later), counts, strict=True)
        # A node that is never complete counts nothing, whatever happens under it.
        return tuple(count if then == now is not None else 0 for then, now, count in nodes)

    def _gain(self, position: int, counts: Counts) -> int:
        """What a participation adds: 1 for a small complete node, 2 count + 1 for a large one."""
        _, offset, size = self._place(position)
        gain = sum(((offset >> level) + 1) << level <= size for level in self._small)
        nodes = self._open_nodes(position)
        return gain + sum(
            2 * count + 1 for node, count in zip(nodes, counts, strict=True) if node is not None
        )

    def _place(self, position: int) -> tuple[int, int, int]:
        """A round's tree, its place in the tree, and the rounds of that tree that ran."""
        tree, offset = divmod(position, self._tree)
        return tree, offset, min(self._tree, self._rounds - tree * self._tree)

    def _find_open_nodes(self, position: int) -> tuple[tuple[int, int] | None, ...]:
        """The larger node over a round, for each level; None where it is never complete."""
        tree, offset, size = self._place(position)
        return tuple(
            (tree, offset >> level) if ((offset >> level) + 1) << level <= size else None
            for level in self._large
        )

    def _next_start(self, position: int) -> int:
        """The start of the next smallest larger node, or of the next tree."""
        tree, offset, size = self._place(position)
        level = self._separation.bit_length()
        return tree * self._tree + min(((offset >> level) + 1) << level, size)

    def _find_room(self, position: int) -> tuple[tuple[int, int], ...]:
        """For each larger level: participations that the open node can take, nodes after it."""
        tree, offset, size = self._place(position)
        last_size = self._rounds % self._tree or self._tree
        later_trees = -(-self._rounds // self._tree) - tree - 1
        room = []
        for level in self._large:
            end = ((offset >> level) + 1) << level
            here = -(-(end - offset) // self._separation) if end <= size else 0
            nodes = max(0, (size >> level) - (offset >> level) - 1)
            if later_trees:
                nodes += (later_trees - 1) * (self._tree >> level) + (last_size >> level)
            room.append((here, nodes))
        return tuple(room)

    def _most_to_come(self, position: int, left: int, counts: Counts) -> int:
        """An upper bound of what can be added: each level takes all participations its own way."""
        total = left * len(self._small)
        levels = zip(self._room(position), counts, self._most_under, strict=True)
        for (here, nodes), count, most in levels:
            best = 0
            # Between these numbers under the open node, the sum of squares is convex.
            for under_open in {0, min(left, here), min(left % most, here)}:
                full, rest = divmod(left - under_open, most)
                later = nodes * most**2 if full >= nodes else full * most**2 + rest**2
                best = max(best, under_open * (under_open + 2 * count) + later)
            total += best
        return total
