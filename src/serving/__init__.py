"""The serving side of the function: settings, releases, events and answers.

It knows AWS, but neither names nor networks.
"""
