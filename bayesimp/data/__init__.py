"""Tables with holes: `IncompleteData`, design matrices, the working scale of the samplers, example data."""
