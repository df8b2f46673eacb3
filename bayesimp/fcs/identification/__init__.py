"""Whether the observed cells identify the conditional models, checked before sampling."""
