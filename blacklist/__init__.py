"""Which hosts are never shown; knows nothing of feeds."""
