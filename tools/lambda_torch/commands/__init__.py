"""One module a subcommand: options and output only; the work is done by the packages beside this one."""
