"""The layer's native half: libraries split into hot pages and a compressed side file."""
