"""One module for each subcommand: its options and its output. The packages beside this one do the work."""
