"""Running the real SAM CLI and Docker: the Python to build for, what containers need from this machine, and the local API."""
