"""Everything behind the door: settings, releases, events and answers. Knows AWS, and nothing of names or networks."""
