"""Stores of samples and pseudo-labels, and the pass that fills them."""
