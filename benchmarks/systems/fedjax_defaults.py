"""The benchmark's driver for FedJAX as its own algorithms cut the batches: in the round."""

from __future__ import annotations

from benchmarks.systems import protocol
from benchmarks.systems.fedjax import FedJax


class FedJaxDefaults(FedJax):
    """FedJAX whose clients are datasets, as `fedjax.algorithms.fed_avg` has them."""

    cut_ahead = False


if __name__ == "__main__":
    protocol.serve(FedJaxDefaults())
