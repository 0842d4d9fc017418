PY := .venv/bin/python
.PHONY: test lint repro

.venv/done: requirements.txt
	python3 -m venv .venv
	$(PY) -m pip install -q -r requirements.txt
	touch $@

test: .venv/done  ## laws, one thread per process
	$(PY) -m pytest -q

lint: .venv/done
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy netformer stages

repro: .venv/done  ## the pipeline as far as it goes, results under reports/
	PATH="$(CURDIR)/.venv/bin:$$PATH" dvc repro
