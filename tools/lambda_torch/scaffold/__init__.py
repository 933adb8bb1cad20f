"""Projects of the user's own: what `lambda-torch init` makes, and what `upgrade` keeps up to date."""
