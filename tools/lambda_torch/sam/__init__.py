"""Driving the real SAM CLI and Docker: which Python is built for, what containers need from this machine, and the local API."""
