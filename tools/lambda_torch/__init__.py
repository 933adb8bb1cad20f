"""The command line for people: train, import, publish, serve, invoke, and look into layers."""
