PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MODEL := runs/tiny/best

.PHONY: quickstart test test-slow check docs clean

# Embeds with the English model that comes along, then trains a tiny one for a minute on the text of the repository.
quickstart: $(VENV)/base
	@printf '— Vectors of the words of two sentences, with their places, from the English model that comes along —\n'
	$(BIN)/python scripts/embed.py en "George Washington went to Washington." "He can open the can."
	@printf '\n— Words of a text that are used like "city" in this sentence —\n'
	$(BIN)/charembed neighbors --model en configs/data/en_excerpt.txt --count 8 \
		--sentence "It is the largest city in the north of the country." --word city
	@printf '\n— A model of your own: a minute of training, on half a megabyte of text —\n'
	$(BIN)/charembed train --config configs/tiny.yaml --overwrite true
	@printf '\n— What each of them writes —\n'
	$(BIN)/charembed generate --model $(MODEL) --prompt "The city of " --characters 200 --seed 1
	$(BIN)/charembed generate --model en --prompt "The city of " --characters 200 --seed 1
	@printf '\n— Next: train on text of your own, for as long as you like, and embed with it —\n'
	@printf '  %s\n' \
		'$(BIN)/charembed train --data.train YOUR_TEXT.txt --output runs/mine --budget.minutes 60' \
		'$(BIN)/charembed embed --model runs/mine/best YOUR_FILE.txt -o vectors' \
		'README.md has taggers and Python.'

# One worker per core, so each of them computes with one thread.
test: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical -m "not slow"

# Long tests: kills in the middle of work, soaks. CI runs them too.
test-slow: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical -m slow

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Builds the documentation site into site/; open site/index.html. Fetches nothing.
docs: $(VENV)/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv runs build dist site

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/base: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e .
	touch $@

$(VENV)/dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[all,dev,docs]'
	touch $@ $(VENV)/base
