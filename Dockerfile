# syntax=docker/dockerfile:1
# visiongraft in a container. The base decides where it runs:
#
#   docker build -t visiongraft .
#   docker build -t visiongraft:cuda --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 .
#
# Any base with apt works that has Python 3.11 or later, or whose distribution has it. See docs/containers.md.
ARG BASE=python:3.12-slim-bookworm

# The environment is made in one stage and copied into the next, so that build tools stay behind.
# hadolint ignore=DL3006
FROM ${BASE} AS build
ARG EXTRAS=explain,parquet,tensorboard,transformers,video
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN if ! python3 -c 'import ensurepip'; then \
        apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv \
            && rm -rf /var/lib/apt/lists/*; \
    fi
RUN python3 -m venv /opt/visiongraft
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY core core
COPY plugins plugins
COPY exporters exporters
RUN /opt/visiongraft/bin/python -m pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]"

# hadolint ignore=DL3006
FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN if ! command -v python3; then \
        apt-get update && apt-get install --yes --no-install-recommends python3 \
            && rm -rf /var/lib/apt/lists/*; \
    fi
COPY --from=build /opt/visiongraft /opt/visiongraft
# This user owns /work, where data are mounted, and HOME with the cache; the code is root's.
RUN useradd --create-home --uid 10001 visiongraft \
    && mkdir /work && chown visiongraft:visiongraft /work
USER 10001
WORKDIR /work
ENV PATH=/opt/visiongraft/bin:$PATH \
    MPLBACKEND=Agg \
    PYTHONUNBUFFERED=1
ENTRYPOINT ["visiongraft"]
CMD ["--help"]
