"""Answers in pieces through Lambda's Runtime API. It is imported only where streaming is on."""
