"""Which unlabeled samples people should label next, and the sheet on which they do."""
