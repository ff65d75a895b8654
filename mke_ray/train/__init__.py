"""The feed, the loop, the engines and what launches fits."""
