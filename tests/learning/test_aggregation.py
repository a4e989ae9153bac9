"""Merging the totals of blocks by the query's own merge."""

import collections
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp

from fl_research.learning import aggregation

pytestmark = pytest.mark.usefixtures("tff_runtime")

TEMPLATE = collections.OrderedDict(
    update=(tf.TensorSpec([2], tf.float32),), weight=tf.TensorSpec([], tf.float32)
)
RECORD_TYPE = collections.OrderedDict(
    update=(tff.TensorType(np.float32, [2]),), weight=tff.TensorType(np.float32)
)
TOTAL_TYPE = tff.to_type(
    collections.OrderedDict(
        accumulated=RECORD_TYPE, metrics=collections.OrderedDict(examples=np.int64)
    )
)


class _LargestQuery(tfp.NoPrivacySumQuery):
    """Merges by the largest value, so that a sum in its place would be seen."""

    def merge_sample_states(self, sample_state_1: Any, sample_state_2: Any) -> Any:
        return tf.nest.map_structure(tf.maximum, sample_state_1, sample_state_2)


class _WideningQuery(tfp.NoPrivacySumQuery):
    """Merges into another type than it was given."""

    def merge_sample_states(self, sample_state_1: Any, sample_state_2: Any) -> Any:
        return tf.nest.map_structure(
            lambda a, b: tf.cast(a, tf.float64) + tf.cast(b, tf.float64),
            sample_state_1,
            sample_state_2,
        )


def _total(update: list[float], weight: float, examples: int) -> collections.OrderedDict:
    """The total of one block."""
    record = collections.OrderedDict(
        update=(np.array(update, np.float32),), weight=np.float32(weight)
    )
    return collections.OrderedDict(
        accumulated=record, metrics=collections.OrderedDict(examples=np.int64(examples))
    )


@pytest.mark.parametrize(
    ("query", "update", "weight"),
    [(tfp.NoPrivacySumQuery(), [11.0, -7.0], 6.0), (_LargestQuery(), [10.0, 0.0], 3.0)],
)
def test_totals_are_merged_by_the_query(query: Any, update: list, weight: float) -> None:
    """Three blocks with hand-computed results; metrics are always summed."""
    aggregate = aggregation.build_aggregation(query, TEMPLATE, TOTAL_TYPE)
    assert aggregate.type_signature.compact_representation() == (
        "({<accumulated=<update=<float32[2]>,weight=float32>,metrics=<examples=int64>>}@CLIENTS -> "
        "<accumulated=<update=<float32[2]>,weight=float32>,metrics=<examples=int64>>@SERVER)"
    )
    total = aggregate(
        [_total([1.0, -2.0], 2.0, 5), _total([10.0, -5.0], 3.0, 7), _total([0.0, 0.0], 1.0, 0)]
    )
    np.testing.assert_array_equal(total["accumulated"]["update"][0], update)
    assert total["accumulated"]["weight"] == weight
    assert total["metrics"]["examples"] == 12


def test_merge_into_another_type_is_refused_with_both_types() -> None:
    with pytest.raises(TypeError, match=r"float32\[2\].*float64\[2\]"):
        aggregation.build_aggregation(_WideningQuery(), TEMPLATE, TOTAL_TYPE)
