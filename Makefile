# make figure_lca_layers | figures | claims | claims_ci | test | mutants | test_cluster | lint | docs | pictures | benchmarks | lock
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11, 4) or sys.exit("Python %d.%d.%d is too old: 3.11.4 or newer is needed; name one with make PYTHON=python3.12 ..." % v[:3])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

figure_%: .venv/installed
	$(BIN)/snakemake $@ $(ARGS)

figures claims claims_ci: .venv/installed
	$(BIN)/snakemake $@ $(ARGS)

test: .venv/installed
	$(BIN)/python -m pytest $(ARGS)

# puts faults into the instruments, one at a time; each must make a test fail; ARGS="--sample 20 --seed 1" draws random small changes instead
mutants: .venv/installed
	PYTHONPATH=tests $(BIN)/python -m mutants $(ARGS)

# as root, or where SLURM is installed
test_cluster: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[slurm]'
	$(BIN)/python -m pytest -n 0 -m cluster tests/cluster $(ARGS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile
	$(BIN)/snakemake --lint

# builds the pages in site/; a misspelt word, a broken link, or a docstring that names an unknown parameter is an error
docs: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --constraint requirements.lock -e '.[docs]'
	$(BIN)/codespell
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# updates the pictures and counts of the pages from finished figures in results/ (of any scale) and from recorded/; takes some two minutes
pictures: .venv/installed
	$(BIN)/python docs/gallery.py update
	$(BIN)/python docs/images/hero.py
	$(BIN)/python docs/images/own_network.py
	$(BIN)/python docs/images/plots.py

# measures all ratios against named peers, each in one run, and writes them as a table and a picture into results/benchmarks/; takes some twenty-five
# minutes, or a few with QUICK=1 (small cases, once, which are not results). Without a name, benchmarks/training.py and landscape.py measure every network;
# dag.py and cifar10_accuracy.py have no peers
benchmarks: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock loss-landscapes==3.0.6 pyhessian
	rm -f results/benchmarks/$(if $(QUICK),quick_)ratios.csv
	$(BIN)/python benchmarks/lca.py
	$(BIN)/python benchmarks/svcca.py
	REPEATS=1 $(BIN)/python benchmarks/stiffness.py
	$(BIN)/python benchmarks/landscape.py resnet20 vgg9
	$(BIN)/python benchmarks/training.py resnet20 resnet56 vgg9 allcnn
	$(BIN)/python benchmarks/ratios.py

# torch and torchvision are pinned as a pair: the wheels of one release match one release of the other
lock: .venv/installed
	printf 'torch==2.13.0\ntorchvision==0.28.0\n' | $(BIN)/pip-compile --quiet --constraint /dev/stdin --extra dev --strip-extras --allow-unsafe \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate --output-file requirements.lock pyproject.toml
	sed -i 's/+cpu//' requirements.lock

.PHONY: figures claims claims_ci test mutants test_cluster lint docs pictures benchmarks lock
