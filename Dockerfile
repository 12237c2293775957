# The environment of requirements.lock, and this checkout in it:
#   docker build -t replication .
#   docker run --rm -v "$PWD/results:/replication/results" replication snakemake figure_lca_layers
# Data sets are downloaded into the container; to avoid that, mount a folder that has them and set REPLICATION_DATA.
# On a machine without a GPU, --build-arg PIP_EXTRA_INDEX_URL=<PyTorch's index of CPU wheels> avoids some gigabytes of CUDA.
FROM python:3.11-slim

ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# the provenance of a result names the commit
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*

WORKDIR /replication
COPY requirements.lock .
RUN pip install -r requirements.lock

COPY . .
RUN pip install --no-deps --no-build-isolation -e . && git config --system --add safe.directory /replication

CMD ["snakemake", "--list"]
