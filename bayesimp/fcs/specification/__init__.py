"""From the user's declarations to the conditional models that are fitted."""
