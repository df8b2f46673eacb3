"""From what the user declares to the conditional models that are fitted."""
