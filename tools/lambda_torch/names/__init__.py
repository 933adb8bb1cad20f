"""Making the sample model: names to learn, training, and releases from older files."""
