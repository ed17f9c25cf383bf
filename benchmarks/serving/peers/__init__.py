"""What we compare with, each an application of its own on the same data."""
