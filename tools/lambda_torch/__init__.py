"""The command line: train, import, publish, serve, invoke, and inspect layers."""
