"""The serving side of the function: settings, releases, events and answers.

It knows AWS. It does not know the model: neither the sample's names nor any network.
"""
