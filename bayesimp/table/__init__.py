"""The incomplete table as the models read it: `IncompleteData`, files, exact storage."""
