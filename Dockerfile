# Two stages: the first resolves nothing, it only installs what the hashed locks name and builds the
# project's wheel, its hot modules compiled; the second holds the interpreter, one virtual environment
# and no tools. Both have the same Python; the first has a C compiler, too.
ARG BUILD_IMAGE=python:3.13
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${BUILD_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    UV_NO_CACHE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /src

COPY requirements.txt requirements-native.txt ./
# uv itself comes out of the lock, with its hash
RUN awk '/^[^ ]/ { keep = /^uv==/ } keep' requirements-native.txt > /tmp/uv.txt \
    && pip install --no-deps --require-hashes --only-binary :all: -r /tmp/uv.txt \
    && python -m venv --without-pip /opt/venv \
    && uv pip install --python /opt/venv/bin/python --require-hashes --no-deps --only-binary :all: \
        --compile-bytecode -r requirements.txt \
    && python -m venv --without-pip /opt/build \
    && uv pip install --python /opt/build/bin/python --require-hashes --no-deps --only-binary :all: \
        -r requirements-native.txt

COPY pyproject.toml README.md LICENSE ./
COPY deploy/native.py deploy/
COPY schemas/ schemas/
COPY consumer/ consumer/
# hatchling, mypyc and what they need are in that lock, too; nothing else is fetched
RUN HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 \
    uv build --wheel --no-build-isolation --python /opt/build/bin/python --out-dir /tmp/dist . \
    && uv pip install --python /opt/venv/bin/python --no-deps --no-index --compile-bytecode /tmp/dist/*.whl


FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="meta-strategy-selector" \
      org.opencontainers.image.description="Chooses a take-profit and stop-loss strategy for each trading signal, exactly once, and learns from each closed trade." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

COPY --from=build /opt/venv /opt/venv
# PYTHONOPTIMIZE stays empty: the Kafka client checks its state with assert, so -O is not safe.
# HTTP_HOST: inside a container the loopback default could be reached by nobody.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONOPTIMIZE= \
    HTTP_HOST=0.0.0.0 \
    HTTP_PORT=8000 \
    LOG_FORMAT=json

# root's, and empty: the worker writes nowhere but, if asked to, to its state file
WORKDIR /app
# a number, so that Kubernetes can prove that it is not root
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['HTTP_PORT']), timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["meta-strategy"]
CMD ["worker"]
