"""What a workload touches, recorded and kept."""
