"""The write side of releases: publishing, moving channels, looking at what a bucket holds, and cleaning up."""
