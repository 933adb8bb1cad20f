"""The best memory size: measure sizes, compute their prices, and recommend one."""
