"""Plan files, the command line and the folder of a run."""
