"""Plain torch networks: teachers, encoders, fusion, student, weights files."""
