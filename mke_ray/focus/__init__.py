"""Modality focusing: which channels of a teacher help a student of another modality, and why."""
