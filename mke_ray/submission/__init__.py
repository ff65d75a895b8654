"""Jobs are submitted to a running cluster, followed and stopped; the main is ``jobs/submit.py``."""
