"""The student online: a JSON API over an exported student, on Ray Serve."""
