# make demo: train on real data, answer a new sentence, and say which way of adapting was worth its time; needs Python
#            3.11+ and a package index
# make app: the same in the browser
# make space: what a Space of Hugging Face holds, in build/space
# make picture: README's first picture, from the same comparison
# make test | test-long | lint | docs | screenshots | bench | clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NEEDS := pyproject.toml constraints.txt
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
WORKERS ?= 2
SENTENCE ?= The new update is gorgeous and everything just works!

.PHONY: demo picture app space test test-long lint lint-style lint-types lint-layers docs screenshots bench clean

demo: $(VENV)/.core
	$(BIN)/hftransfer samples text
	ladder=runs/demo-$$(date +%Y%m%d-%H%M%S) \
	&& $(BIN)/hftransfer train configs/quickstart.yaml output=$$ladder/auto \
	&& $(BIN)/hftransfer predict $$ladder/auto "$(SENTENCE)" \
	&& $(BIN)/hftransfer compare configs/quickstart.yaml --methods zero_shot,probe,lora,auto output=$$ladder

picture: $(VENV)/.core
	$(BIN)/hftransfer samples text
	rm -rf runs/picture
	$(BIN)/hftransfer compare configs/quickstart.yaml --methods zero_shot,probe,lora,auto output=runs/picture
	cp runs/picture/comparison.png docs/ladder.png

app: $(VENV)/.ui
	$(BIN)/hftransfer app

space:  # build/space: what a Space holds; see docs/space.md
	rm -rf build/space
	mkdir -p build/space
	cp -r hftransfer configs LICENSE spaces_app.py space/README.md space/requirements.txt build/space/
	find build/space -name __pycache__ -type d -prune -exec rm -rf {} +

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m long

lint: lint-style lint-types lint-layers  # make -j2 lint: the last two take a core each

lint-style: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-types: $(VENV)/.dev
	$(BIN)/mypy

lint-layers: $(VENV)/.dev
	$(BIN)/lint-imports

docs: $(VENV)/.core
	$(BIN)/python docs/generate.py

screenshots: $(VENV)/.test
	$(BIN)/hftransfer samples text
	$(BIN)/python docs/screenshots.py

bench: $(VENV)/.test
	$(BIN)/hftransfer samples text image recommendation speech chat questions captions detection emoji-scenes mnist \
		tree-crowns libreoffice-en-fr
	$(BIN)/python -m benchmarks.run --write  # but what takes long or a browser: those parts by name, see --help

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# one stamp an extra: an install is repeated only after its needs changed
$(VENV)/.core: $(BIN)/python $(NEEDS)
	$(INSTALL) -e .
	touch $@

$(VENV)/.ui: $(BIN)/python $(NEEDS)
	$(INSTALL) -e ".[ui]"
	touch $@

$(VENV)/.test: $(BIN)/python $(NEEDS)
	$(INSTALL) -e ".[test]"
	touch $@

$(VENV)/.dev: $(BIN)/python $(NEEDS)
	$(INSTALL) -e ".[dev]"
	touch $(VENV)/.core $(VENV)/.ui $(VENV)/.test $@  # it holds the others

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11"; \
	  exit 2; }
	@echo "Installing into $(VENV): torch alone is large, the first time takes minutes"
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 2; }  # half an environment would pass for one next time
