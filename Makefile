# Everything installs itself into .venv at first use; nothing needs to be active.

PYTHON  ?= $(shell for p in python3 python3.12 python3.11 python3.10 python; do \
             if $$p -c "" 2>/dev/null; then echo $$p; break; fi; done)
TORCH   ?= auto
MINUTES ?= 2
RUN     := .venv/bin/python
STAMP   := .venv/.setup-done
DEV     := .venv/.dev-done

# Waiting OpenMP threads sleep: spinning ones slow everything down as soon as another program uses a core.
export OMP_WAIT_POLICY = passive

# Tests as on a processor without bfloat16, or without AVX-512 altogether: make test WITHOUT=bf16, WITHOUT=avx512.
WITHOUT ?=
MASK_   :=
MASK_bf16 := ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI
MASK_avx512 := ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
  NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES= OPENBLAS_CORETYPE=Haswell

.PHONY: help setup demo test test-all lint docs clean

help:
	@echo "make setup   install the pinned packages into .venv (TORCH=auto|cpu|cuda)"
	@echo "make demo    fit an avatar to a synthetic subject, write a report (MINUTES=$(MINUTES) of fitting)"
	@echo "make test    run the tests (WITHOUT=bf16|avx512: as on a processor that lacks these)"
	@echo "make test-all  the same and the exhaustive ones: thousands of damaged files, all joins of the clips, kills"
	@echo "make lint    check style (ruff) and types (pyright)"
	@echo "make docs    build the documentation into build/site"
	@echo "make clean   remove .venv and caches; runs/ is never touched"

setup: $(STAMP)

$(STAMP): requirements.lock requirements-cpu.lock requirements-cuda.lock tools/setup_environment.py
	@$(if $(PYTHON),,echo "error: no Python found; install Python 3.10, 3.11 or 3.12" >&2; exit 2;) \
	$(PYTHON) tools/setup_environment.py --venv .venv --torch $(TORCH)
	@touch $@

demo: $(STAMP)
	@$(RUN) fit_subject.py --demo --minutes $(MINUTES)

test: SELECTED = -m "not slow"
test test-all: $(STAMP)
	@$(if $(filter undefined,$(origin MASK_$(WITHOUT))),echo "error: WITHOUT=$(WITHOUT): expected bf16 or avx512" >&2; exit 2;) \
	$(MASK_$(WITHOUT)) $(RUN) -m pytest -q -rs -n 2 --dist loadfile --durations=10 $(SELECTED)

$(DEV): requirements-dev.lock $(STAMP)
	@$(RUN) -m pip install -q --no-deps --require-hashes --only-binary=:all: -r requirements-dev.lock
	@touch $@

lint: $(DEV)
	@$(RUN) -m ruff check . && $(RUN) -m ruff format --check . && $(RUN) tools/type_check.py

docs: $(DEV)
	@$(RUN) -m mkdocs build -q --strict

clean:
	rm -rf .venv .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path "./runs/*" -prune -exec rm -rf {} +
