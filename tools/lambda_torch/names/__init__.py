"""The sample model's making: names to learn from, training, and releases made from older files."""
