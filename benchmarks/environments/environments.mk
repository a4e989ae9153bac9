# An environment for each peer of the benchmark, in .benchmarks/<peer>, made from a lock file of its
# own when it is first needed. Included by the Makefile in the folder above.

# Where pip looks for torch built for processors alone, besides the index that it is set up for:
# the address of torch's own index for them, where that build is not to be had from the common one.
TORCH_INDEX ?=

# With uv, or with Python 3.11's own venv and pip. $(1): the peer.
define make_peer_environment
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --clear --python 3.11 .benchmarks/$(1) && \
	  uv pip install --quiet --python .benchmarks/$(1)/bin/python --no-deps --require-hashes \
	    -r benchmarks/environments/$(1).txt; \
	else \
	  python=$$(command -v python3.11 || command -v python3 || command -v python); \
	  [ -n "$$python" ] && "$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	    { echo "error: found no Python 3.11 and no uv; install one of them" >&2; exit 1; }; \
	  "$$python" -m venv --clear .benchmarks/$(1) && \
	  .benchmarks/$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    --require-hashes -r benchmarks/environments/$(1).txt; \
	fi
endef

# A peer that needs torch has a lock file for it alone. torch goes in last and by pip: its build
# without CUDA is not on the common index, and uv stops where one of two indexes cannot be reached,
# while pip goes on to the other.
.benchmarks/%/.installed: benchmarks/environments/%.txt benchmarks/environments/%_torch.txt
	$(call make_peer_environment,$*)
	@.benchmarks/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --require-hashes --retries 1 $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
	  -r benchmarks/environments/$*_torch.txt
	@touch $@

.benchmarks/%/.installed: benchmarks/environments/%.txt
	$(call make_peer_environment,$*)
	@touch $@

.PHONY: lock-peers
lock-peers:  ## Make the lock files of the benchmark's peers again (needs uv).
	for file in benchmarks/environments/*.in; do \
	  uv pip compile "$$file" --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-annotate --no-header --quiet -o "$${file%.in}.txt" || exit 1; \
	done
