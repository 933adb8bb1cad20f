"""Makes the virtual environment of a checkout. It needs the standard library only, because nothing is installed yet."""
