"""bayesimp compared with R's pan and lme4 on the same data, in one run: ``python -m benchmarks [names]``."""
