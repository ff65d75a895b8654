"""Multimodal knowledge expansion: unlabeled videos make a student better than its teacher."""

__version__ = "0.1.0"
