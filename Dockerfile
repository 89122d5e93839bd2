# The image of configs/kubernetes/*.yaml: `docker build --tag colorize:0.1.0 .`, then push it where the cluster pulls from.
# One image for head, CPU and GPU pods: PyPI's torch brings its CUDA libraries along and runs on CPUs as well.
FROM python:3.12-slim-bookworm

# KubeRay's health probes call wget; libturbojpeg0 makes grey JPEGs that are stored as RGB cheaper.
# Debian keeps one version of a package in a release: there is none to pin.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libturbojpeg0 wget && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY colorize colorize
RUN pip install --no-cache-dir --constraint constraints.txt '.[pretrained]' && rm -rf build
COPY jobs jobs
COPY configs configs

RUN useradd --create-home --uid 1000 ray
USER 1000
