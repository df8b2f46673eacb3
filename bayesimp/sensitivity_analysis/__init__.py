"""How far conclusions depend on the prior: `bayesimp.sensitivity`."""
