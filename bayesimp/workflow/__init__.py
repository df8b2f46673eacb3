"""Plan files, the command line and the report of a run."""
