"""How far conclusions depend on the prior: `sensitivity`."""
