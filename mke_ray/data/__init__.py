"""Sources of samples, the manifest, decoding and views."""
