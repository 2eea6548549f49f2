PYTHON ?= python3
BIN := .venv/bin
MODEL := runs/tiny/best

.PHONY: quickstart test check clean

# Trains a tiny model for a minute on the text that comes with the repository, embeds with it and looks at its vectors.
quickstart: .venv/base
	$(BIN)/charembed train --config configs/tiny.yaml --overwrite true
	@echo "\n— How well does it predict text? —"
	$(BIN)/charembed evaluate --model $(MODEL) configs/data/en_excerpt.txt
	@echo "\n— Vectors of the words of two sentences, with their places —"
	$(BIN)/python scripts/embed.py $(MODEL) "George Washington went to Washington." "He can open the can."
	@echo "\n— Words used like 'city' in this sentence —"
	$(BIN)/charembed neighbors --model $(MODEL) configs/data/en_excerpt.txt --count 8 \
		--sentence "It is the largest city in the north of the country." --word city
	@echo "\n— Next: train on text of your own for as long as you like —"
	@echo "  $(BIN)/charembed train --data.train YOUR_TEXT.txt --output runs/mine --budget.minutes 60"
	@echo "  $(BIN)/charembed embed --model runs/mine/best YOUR_FILE.txt -o vectors.npz"
	@echo "  See README.md for taggers and for Python."

# All of it: some of the longer tests are left out, run them with `make test TESTS='-m slow'`.
test: .venv/dev
	$(BIN)/python -m pytest $(TESTS)

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv runs build dist

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/base: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e .
	touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[train,flair,dev]'
	touch $@ .venv/base
