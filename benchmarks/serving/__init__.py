"""The site's reads beside its peers': python -m benchmarks.serving."""
