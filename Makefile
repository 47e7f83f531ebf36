# All of the project's work by name: `make help`.
# Needs GNU make, a POSIX shell and Python 3.11 or newer; everything else goes into .venv.

PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.installed
DESTSEG := .venv/bin/destseg
# Tiny mode needs no network once all is installed; in here, any request fails.
OFFLINE := PYTHONPATH=$(CURDIR)/tests/offline
# Threads that spin while they wait for one another steal the time of whatever else runs on the same
# cores, and both crawl. On idle cores sleeping costs little.
export OMP_WAIT_POLICY ?= PASSIVE
# With a backend of the shell's, notebooks show no pictures, and the book has none.
unexport MPLBACKEND
# Tests beside each other, a file of them in one process: a file's tests may share what they made. The
# longest files begin (conftest.py sorts them), so that no core waits for one of them at the end.
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
# A worker that dies ends the run: xdist would wait for its file for ever (found with 3.8).
BESIDE = -n $(JOBS) --maxprocesses 8 --max-worker-restart 0 --no-loadscope-reorder
# Processes beside each other compute on one thread each: on two, each waits for the other's.
ONE_EACH := OMP_NUM_THREADS=1
# The book's example is trained on half of the cores, with a stated number of threads so that it
# repeats. Meanwhile the book's notebooks run on whatever that leaves, four at a time at most.
HALF := $(shell echo $$(( ($(JOBS) + 1) / 2 )))
STATED := OMP_NUM_THREADS=$(or $(OMP_NUM_THREADS),$(HALF))
# What `make test` runs, in this order. CI adds the book.
STAGES ?= install lint types unit notebooks

.DEFAULT_GOAL := help
.PHONY: help install vendor live lint format types quick unit notebooks test executed book slides page browser links colab bench gpu \
  constraints assignments grade check-grading handout clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv and install the package with all it needs (PYTHON=python3.12 chooses)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || { \
	  echo "Python 3.11 to 3.14 is needed, and '$(PYTHON)' is not: choose one, as in" \
	    "'make $(MAKECMDGOALS) PYTHON=python3.12'." >&2; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv .venv || { \
	  echo "No virtual environment could be made; on Debian and Ubuntu install python3-venv." >&2; \
	  rm -rf .venv; exit 1; }
	@echo "Installing into .venv (PyTorch is large: this takes a few minutes the first time) ..."
	@$(PY) -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[test,book,teach]'
	@touch $@

live: vendor ## export the models of the live page and what else it loads
	@$(OFFLINE) $(PY) -m tools.live.build

vendor: $(STAMP) ## fetch the JavaScript that the book's pages load (npm, once)
	@$(PY) tools/book/vendor.py

lint: $(STAMP) ## check style and formatting (ruff)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(STAMP) ## fix what ruff can fix
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(STAMP) ## check types (mypy, strict)
	$(PY) -m mypy

quick: $(STAMP) ## run the unit tests that are not marked slow
	$(OFFLINE) $(ONE_EACH) $(PY) -m pytest $(BESIDE) --dist loadfile -m "not slow" tests

# Some of them wait for programs to end, so one more than there are cores: no core is idle.
unit: JOBS := $(shell echo $$(( $(JOBS) + 1 )))
unit: $(STAMP) ## run the unit tests (pytest), cut off from the network: THOROUGH=1 adds minutes of cases
	$(OFFLINE) $(ONE_EACH) $(PY) -m pytest $(BESIDE) --dist loadfile tests

NBVAL := --nbval-lax --nbval-current-env $(if $(EXECUTED),--executed $(EXECUTED))

notebooks: $(STAMP) ## run every notebook of the book, outputs checked (nbval); EXECUTED=_build/executed takes those of make book
	$(OFFLINE) $(ONE_EACH) $(PY) -m pytest $(BESIDE) --maxprocesses 4 --dist loadfile $(NBVAL) book

# One loop, so that the time of each stage is known wherever the tests run.
test: ## lint, types, unit tests and notebooks, with the time of each
	@split=""; result=0; \
	for stage in $(STAGES); do \
	  echo "== $$stage"; begin=$$(date +%s); \
	  $(MAKE) --no-print-directory $$stage || result=$$?; \
	  split="$$split$$(printf '%8d s  %s' $$(($$(date +%s) - begin)) "$$stage")\n"; \
	  test $$result -eq 0 || { split="$$split            ^ failed\n"; break; }; \
	done; \
	echo "== time by stage"; printf "$$split"; exit $$result

# Trained again whenever the library has changed: what it prints is today's result. No page shows it, so
# a build that is only to be checked may make it shorter: EXAMPLE_OPTIONS="--time-budget 2".
EXAMPLE := runs/book
EXAMPLE_OPTIONS ?=
LIBRARY := $(shell find destseg_lib -name '*.py' -o -name '*.safetensors')

$(EXAMPLE)/evaluation.json: $(STAMP) $(LIBRARY)
	@echo "Training DeSTSeg on a drawn category: two to fifteen minutes without a GPU ..."
	@rm -rf $(EXAMPLE)
	$(OFFLINE) $(STATED) $(DESTSEG) train --category component $(EXAMPLE_OPTIONS) --out $(EXAMPLE)
	$(OFFLINE) $(DESTSEG) evaluate --run $(EXAMPLE) --json $(EXAMPLE)/evaluation.json --figures $(EXAMPLE)

executed: $(STAMP)
	@echo "Running the book's notebooks ..."
	@$(OFFLINE) nice -n 10 $(PY) tools/book/execute.py --jobs $$(( $(JOBS) < 4 ? $(JOBS) : 4 ))

book: vendor ## train on a drawn category, measure, build the book, say where to look
	@$(PY) -c 'import jupyter_book' 2>/dev/null || { \
	  echo "Jupyter Book 1.x runs on Python 3.11 to 3.13; remove .venv and choose one with PYTHON=." >&2; \
	  exit 1; }
	@rm -rf _build/html _build/executed  # a page that was not built again must not pass for one that was
	@$(MAKE) --no-print-directory -j3 live $(EXAMPLE)/evaluation.json executed
	$(OFFLINE) .venv/bin/jupyter-book build . --path-output . --all -W -n --keep-going
	@rm -rf _build/.jupyter_cache
	@$(PY) tools/book/slides.py
	@$(PY) tools/book/check_book.py
	@echo "The trained model, its metrics and its best and worst cases: $(EXAMPLE)"
	@echo "The book: open _build/html/index.html in a browser."

slides: $(STAMP) ## write the chapters' slides into the built book again (after book)
	@$(PY) tools/book/slides.py

page: live ## build one page and look at it: PAGE=book/02_measuring
	$(OFFLINE) $(PY) tools/book/preview.py $(PAGE)

browser: $(STAMP) ## open every built page in a headless Chromium and play with it (after book)
	$(OFFLINE) $(ONE_EACH) $(PY) -m pytest $(BESIDE) tests/browser

links: $(STAMP) ## ask every address that the built book links to (needs a network)
	$(PY) tools/book/check_links.py

colab: $(STAMP) ## say where the book is published: REPO=owner/name, REF=branch or tag; REPO= takes it back
	$(PY) tools/book/notebooks.py --stamp "$(REPO)" --reference "$(or $(REF),main)"

BENCHMARKS := metrics streaming corruption drawing training steps ideas prediction export_cost

bench: $(STAMP) ## run the benchmarks, each against its plain counterpart
	@for name in $(BENCHMARKS); do \
	  file=benchmarks/$$name.py; echo "== $$file"; $(PY) "$$file" || exit 1; \
	done

gpu: $(STAMP) ## check and time the GPU, then the paper's recipe on it: ARGS="--minutes 9 --data DIR"
	$(PY) benchmarks/gpu.py $(ARGS)

assignments: $(STAMP) ## write the assignments that a secret makes into OUT=assigned: SECRET=FILE
	$(if $(SECRET),,$(error Name the file of your secret: make assignments SECRET=~/course.secret))
	$(PY) tools/assignments/write.py --secret "$(SECRET)" --out "$(or $(OUT),assigned)"

grade: $(STAMP) ## grade what was handed in: DIR=folder ROSTER=csv, ONLY="metrics cosine", GRADER=assigned/grader, OUT=marks
	$(if $(and $(DIR),$(ROSTER)),,$(error Name what was handed in and the roster: make grade DIR=handed_in ROSTER=roster.csv))
	$(PY) tools/assignments/grade.py --dir "$(DIR)" --roster "$(ROSTER)" --grader "$(or $(GRADER),assigned/grader)" \
	  --out "$(or $(OUT),marks)" $(if $(ONLY),--only $(ONLY)) $(if $(UNSAFE),--unsafe)

check-grading: $(STAMP) ## grade a class of thirty, hostile submissions among them, and write the record
	$(PY) tools/assignments/check_grading.py --json results/grading/thirty.json

handout: $(STAMP) ## the chapters without solutions into OUT=handout; KEEP="02_measuring" keeps theirs, PAGES=1 builds pages
	$(PY) tools/assignments/handout.py --out "$(or $(OUT),handout)" $(if $(PAGES),--book) --keep $(KEEP)

constraints: $(STAMP) ## write constraints.txt from what .venv holds now
	@$(PY) tools/pin.py > constraints.new && mv constraints.new constraints.txt && touch $(STAMP)

clean: ## remove what was built; .venv and runs stay
	rm -rf _build build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -path ./.venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
