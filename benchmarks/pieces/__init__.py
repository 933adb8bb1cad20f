"""How long a piece of an answer takes from the model to the client."""
