"""Holds the builder's rules against a wheel of torch, without building: what must be changed for a new version."""
