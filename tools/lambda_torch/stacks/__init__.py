"""A stack as a whole: its template, the names that it gives, and removing it."""
