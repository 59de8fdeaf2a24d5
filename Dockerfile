# The CPU image. `samebits build` passes every argument and the two named contexts; see `samebits build --print`.
ARG BASE=python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
FROM ${BASE}

# The locked wheels. Without network, so that neither an index nor a site's certificates can have a part in it.
# pip itself comes from the base and stays outside.
COPY requirements.lock /opt/samebits/requirements.lock
RUN --network=none --mount=type=bind,from=wheelhouse,target=/wheelhouse --mount=type=tmpfs,target=/tmp \
    export PYTHONDONTWRITEBYTECODE=1 \
 && python3 -m venv /tmp/pip \
 && python3 -m venv --without-pip /opt/samebits/venv \
 && /tmp/pip/bin/pip --python /opt/samebits/venv/bin/python install --no-index --find-links=/wheelhouse \
      --require-hashes --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
      --root-user-action=ignore -r /opt/samebits/requirements.lock \
 && PYTHONHASHSEED=0 /opt/samebits/venv/bin/python -m compileall -q -j1 --invalidation-mode unchecked-hash \
      /opt/samebits/venv/lib

RUN mkdir -m 0777 /runs /work && useradd --uid 1000 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin samebits \
 && rm -f /var/log/*log /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-

# The settings that must stand before Python starts; profile.py lists and explains them, and a test compares.
ENV PYTHONHASHSEED=0 \
    PYTHONNOUSERSITE=1 \
    TF_ENABLE_ONEDNN_OPTS=1 \
    OPENBLAS_NUM_THREADS=1 \
    KERAS_BACKEND=tensorflow \
    LC_ALL=C.UTF-8 \
    TZ=UTC \
    HOME=/tmp \
    KERAS_HOME=/tmp/.keras \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/opt/samebits/source \
    PATH=/opt/samebits/venv/bin:/usr/local/bin:/usr/bin:/bin

WORKDIR /work
USER 1000:1000
ENTRYPOINT ["/opt/samebits/venv/bin/python", "-P", "-m", "samebits.container"]

# What changes most comes last.
ARG BASE_NAME
ARG BASE_DIGEST
ARG LOCK_DIGEST
ARG SOURCE_DIGEST
ARG VERSION
LABEL org.opencontainers.image.title="samebits" \
      org.opencontainers.image.description="TensorFlow and Keras, hash-locked, with the samebits entrypoint" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.base.name="${BASE_NAME}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}" \
      samebits.lock="${LOCK_DIGEST}" \
      samebits.source="${SOURCE_DIGEST}"
COPY --from=source . /opt/samebits/
