"""Search over fusion, loss and any other key, on the stores of a run."""
