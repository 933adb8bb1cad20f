"""Running the real SAM CLI and Docker: the Python to build for, what containers need, and the local API."""
