# make demo | test | test-long | lint | clean | distclean        PYTHON=python3.12 picks another Python
# PIP_ARGS is handed to pip: on a machine without a GPU it can name the index of the smaller
# CPU-only PyTorch, which saves a download of several gigabytes.
PYTHON ?= python3
PIP_ARGS ?=
# Threads that wait by spinning slow each other down on small and shared machines.
OMP_WAIT_POLICY ?= PASSIVE
export OMP_WAIT_POLICY

INSTALLED := .venv/.installed

.PHONY: help demo test test-long lint clean distclean

PYTEST := .venv/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/make \1:/p' Makefile

demo: $(INSTALLED)  ## draw the cartoon world, train on it, sample and judge: outputs/demo/
	.venv/bin/python -m demo

test: $(INSTALLED)  ## run the tests but the long ones: under six minutes
	$(PYTEST) -m "not long"

test-long: $(INSTALLED)  ## run the long ones: programs that are started and killed, several trainings
	$(PYTEST) -m long

lint: $(INSTALLED)  ## check the code's style
	.venv/bin/ruff check .
	.venv/bin/ruff format --check -q .

clean:  ## remove caches and everything under outputs/, trained models included
	rm -rf outputs lightning_logs .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove the virtual environment
	rm -rf .venv

# The stamp comes last, so that an interrupted installation is taken up again.
$(INSTALLED): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("Python %d.%d is too old: install Python 3.11 or newer, or name one, such as make PYTHON=python3.12" % v[:2])'
	@$(PYTHON) -c 'import shutil; print("Installing into .venv: a few minutes and about 7 GB the first time, 2 with CPU-only PyTorch;", shutil.disk_usage(".").free // 10**9, "GB are free here")'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -q --disable-pip-version-check $(PIP_ARGS) -r requirements-dev.txt
	@touch $@
