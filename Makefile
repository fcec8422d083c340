# make run · test · lint · bench · claims · traces · paper ID=SLUG · readme · train CHECKPOINT=text-ar-1 · fuzz [CALLS=10000] · load · soak · serve-ray [N=2] · space [TO=OWNER/NAME] · install · clean
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 7860
TORCH ?= torch==2.13.0
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
CI ?=
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: run install install-dev test lint bench claims traces paper readme train fuzz load soak serve-ray space browser clean help

run: install
	$(BIN)/python app.py --host $(HOST) --port $(PORT)

install: $(VENV)/.runtime

# Torch alone first, so that the CPU build an index offers is kept and nothing larger is pulled in by the others. The rest in
# the versions that CI tested; with another torch: make run TORCH=torch==2.9.1 CONSTRAINTS=/dev/null
$(VENV)/.runtime: requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 12) else f"Tokenscope needs Python 3.11 or 3.12, this is {v[0]}.{v[1]}; try: make run PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) $(TORCH)
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -r requirements.txt
	touch $@

install-dev: $(VENV)/.dev

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.txt requirements-mcp.txt requirements-ray.txt
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -r requirements-dev.txt
	touch $@

# Tests that need Chromium are skipped with a reason where it cannot be installed; in CI nothing is skipped silently.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } \
	|| echo "No Chromium found and it cannot be installed here: the browser tests will be skipped (install the package 'chromium')."

# Three at a time, a file stays together: many browser tests wait for the page more than they compute.
test: install-dev browser
	CI=$(CI) $(BIN)/python -m pytest -n 3 --dist loadfile

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tools.lint_js

bench: install
	for name in attention vocabulary unmask-step model prune start click; do $(BIN)/python -m benchmarks $$name; done

claims: install-dev
	$(BIN)/python -m models claims $(METHODS)

traces: install
	$(BIN)/python -m models traces $(METHODS)

# One paper's contract, traps, quick claim and trace; what is still missing is listed.
paper: install-dev
	@test -n "$(ID)" || { echo "Say which: make paper ID=lut"; exit 2; }
	$(BIN)/python tools/paper.py $(ID)

readme: install
	$(BIN)/python tools/readme.py

train: install-dev
	@test -n "$(CHECKPOINT)" || { echo "Say which: make train CHECKPOINT=photo-mae-1 (see training/README.md)"; exit 2; }
	$(BIN)/python -m training $(CHECKPOINT)

fuzz: install-dev
	FUZZ_CALLS=$${CALLS:-10000} FUZZ_FOLDERS=2000 FUZZ_LINKS=2000 $(BIN)/python -m pytest tests/test_fuzz*.py

load: install-dev
	$(BIN)/python -m tests.load $(ARGS)

soak: install-dev
	$(BIN)/python -m tests.soak $(ARGS)

# One page and N replicas of the models, on this machine or on the cluster at RAY_ADDRESS (docs/replicas.md).
serve-ray: install
	$(BIN)/python -c 'import ray.serve' 2>/dev/null || $(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -r requirements-ray.txt
	TOKENSCOPE_REPLICAS=$${N:-2} $(BIN)/python app.py --host $(HOST) --port $(PORT)

space: install
	$(BIN)/python tools/space.py $(if $(TO),--push $(TO))

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis

help:
	@sed -n 1p Makefile
