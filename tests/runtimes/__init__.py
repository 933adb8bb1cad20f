"""Other Pythons and other versions of torch than this machine's: wheels, environments, and the table of what was run on them."""
