"""The benchmark's driver for stock TFF as a program runs it that sets nothing."""

from benchmarks.systems.protocol import serve
from benchmarks.systems.stock_tff import StockTff


class StockTffDefaults(StockTff):
    """Stock TFF with its default training loop and datasets as they come."""

    loop_implementation = "DATASET_REDUCE"
    tuned_datasets = False


if __name__ == "__main__":
    serve(StockTffDefaults())
