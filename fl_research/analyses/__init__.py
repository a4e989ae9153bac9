"""What use cases compute from a trained model before the report; see `fl_research.analysis`."""
