"""Multimodal knowledge expansion: from a unimodal teacher and unlabeled videos to a better multimodal student."""

__version__ = "0.1.0"
