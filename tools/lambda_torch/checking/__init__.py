"""`lambda-torch check`: everything about a model that can be looked at before it is deployed."""
