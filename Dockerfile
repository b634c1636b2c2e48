# `rpcregistry run`, as a user without rights, on a root file system that may be read-only.
# `make image` builds it, and hack/image/base makes a BASE_IMAGE where no image registry is reached.
# The digest decides, and is that of the index of all platforms; the tag is for people.
ARG BASE_IMAGE=python:3.11.16-slim-bookworm@sha256:0bee7276f83efd4a1ee05bbbf4281d95ed28e079220a9457f25a93e3f1e3c31b

FROM ${BASE_IMAGE} AS build
# How the package index is reached comes as secrets, so that no layer holds it.
ENV PIP_CONFIG_FILE=/run/secrets/pip.conf PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/rpcregistry
COPY requirements.lock hack/image/build.lock ./
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.pem \
    /build/bin/pip install --require-hashes -r build.lock \
 && /build/bin/pip --python /opt/rpcregistry/bin/python3 install --require-hashes -r requirements.lock \
    # Its asynchronous twin is half of the Kubernetes client, and is not used.
 && rm -r /opt/rpcregistry/lib/python3*/site-packages/kubernetes/aio
COPY pyproject.toml README.md ./
COPY controller controller
RUN /build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /build/bin/pip --python /opt/rpcregistry/bin/python3 install --no-index --no-deps /wheels/*.whl

FROM ${BASE_IMAGE}
COPY --from=build /opt/rpcregistry /opt/rpcregistry
# pip has compiled all modules: nothing is left to be written at run time.
ENV PATH=/opt/rpcregistry/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["rpcregistry"]
CMD ["run"]
