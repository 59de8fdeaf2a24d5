# The CPU image, a function of its build context: lock/, source/, image.json. `samebits build` writes the context and
# passes every argument. The wheels are a second, named context. A project's own packages add packages/ to the context,
# contexts with their wheels, and two layers: LAYERS names the stage that the image continues.
ARG LAYERS=tensorflow
ARG BASE=python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
FROM ${BASE} AS tensorflow
ARG SOURCE_DATE_EPOCH

# Each step ends by setting the times of all files it changed to SOURCE_DATE_EPOCH, so that its layer does not depend on
# the time of the build. The step does this itself, because not every builder can rewrite times. Folders are mounted on
# /media, /mnt and /tmp only, which every base has: a new mount point would become part of the layer. (useradd uses
# SOURCE_DATE_EPOCH for a date in /etc/shadow, too.)
SHELL ["/bin/sh", "-euc", "start=$(date +%s.%N); sleep 0.1; eval \"$0\"; find / -xdev -newerct \"@$start\" ! -path '/dev*' ! -path '/proc*' ! -path '/sys*' ! -path '/media*' ! -path '/mnt*' ! -path '/tmp*' ! -path /etc/hosts ! -path /etc/resolv.conf -exec touch --no-dereference --date=\"@$SOURCE_DATE_EPOCH\" {} +"]

RUN python3 -m venv --without-pip /opt/samebits/venv && mkdir -m 0777 /runs /work \
 && useradd --uid 1000 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin samebits \
 && rm -f /var/log/*log /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-

# (Dockerfile.gpu has CUDA here.)
# The locked wheels, installed without network, so that no index and no certificate can influence the layer. pip comes
# from the base and is not installed. Compiled with a fixed hash seed, which decides the order in frozen sets.
RUN --network=none --mount=type=bind,source=lock,target=/media --mount=type=bind,from=wheelhouse,target=/mnt \
    --mount=type=tmpfs,target=/tmp export PYTHONDONTWRITEBYTECODE=1 \
 && python3 -m venv /tmp/pip \
 && /tmp/pip/bin/pip --python /opt/samebits/venv/bin/python install --no-index --find-links=/mnt \
      --require-hashes --no-deps --no-compile --no-cache-dir --disable-pip-version-check --quiet \
      --root-user-action=ignore -r /media/requirements.lock \
 && PYTHONHASHSEED=0 /opt/samebits/venv/bin/python -m compileall -q -j1 -x /nvidia/ \
      --invalidation-mode unchecked-hash /opt/samebits/venv/lib

# The project's own packages, installed like those of the base lock: two layers, as the large wheels change less often.
# Only their own files are compiled, so the layer below stays as it is. Some hold templates that are no valid Python.
FROM tensorflow AS packages
RUN --network=none --mount=type=bind,from=packages-large,target=/mnt --mount=type=tmpfs,target=/tmp \
    export PYTHONDONTWRITEBYTECODE=1 && [ ! -s /mnt/requirements.txt ] || { python3 -m venv /tmp/pip \
 && /tmp/pip/bin/pip --python /opt/samebits/venv/bin/python install --no-index --find-links=/mnt \
      --require-hashes --no-deps --no-compile --no-cache-dir --disable-pip-version-check --quiet \
      --root-user-action=ignore -r /mnt/requirements.txt \
 && find /opt/samebits/venv/lib -name '*.py' -newerct "@$start" > /tmp/sources \
 && if [ -s /tmp/sources ]; then PYTHONHASHSEED=0 /opt/samebits/venv/bin/python -m compileall -qq -j1 -i /tmp/sources \
      --invalidation-mode unchecked-hash || true; fi; }
RUN --network=none --mount=type=bind,from=packages-small,target=/mnt --mount=type=tmpfs,target=/tmp \
    export PYTHONDONTWRITEBYTECODE=1 && [ ! -s /mnt/requirements.txt ] || { python3 -m venv /tmp/pip \
 && /tmp/pip/bin/pip --python /opt/samebits/venv/bin/python install --no-index --find-links=/mnt \
      --require-hashes --no-deps --no-compile --no-cache-dir --disable-pip-version-check --quiet \
      --root-user-action=ignore -r /mnt/requirements.txt \
 && find /opt/samebits/venv/lib -name '*.py' -newerct "@$start" > /tmp/sources \
 && if [ -s /tmp/sources ]; then PYTHONHASHSEED=0 /opt/samebits/venv/bin/python -m compileall -qq -j1 -i /tmp/sources \
      --invalidation-mode unchecked-hash || true; fi; }
ARG PACKAGES_DIGEST
LABEL samebits.packages="${PACKAGES_DIGEST}"

FROM ${LAYERS}
# The settings that must be set before Python starts. determinism_profile.py explains them; a test compares both.
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
    PYTHONPATH=/opt/samebits/recipe/source \
    PATH=/opt/samebits/venv/bin:/usr/local/bin:/usr/bin:/bin

WORKDIR /work
USER 1000:1000
# It starts the runner with an environment of which every variable is known.
ENTRYPOINT ["/opt/samebits/venv/bin/python", "-I", "-S", "/opt/samebits/recipe/source/samebits/runner/clean_start.py"]

# The context changes most often, so it comes last. A run copies it into its folder for `samebits rebuild`.
ARG BASE_NAME
ARG BASE_DIGEST
ARG DEVICE
ARG LOCK_DIGEST
ARG SOURCE_DIGEST
ARG VERSION
ARG PYTHON=3.13
LABEL org.opencontainers.image.title="samebits" \
      org.opencontainers.image.description="TensorFlow and Keras, hash-locked, with the samebits entrypoint" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.base.name="${BASE_NAME}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}" \
      samebits.device="${DEVICE}" \
      samebits.lock="${LOCK_DIGEST}" \
      samebits.python="${PYTHON}" \
      samebits.source="${SOURCE_DIGEST}"
USER 0
RUN --network=none --mount=type=bind,target=/media cp -r /media /opt/samebits/recipe \
 && PYTHONHASHSEED=0 /opt/samebits/venv/bin/python -m compileall -q -j1 --invalidation-mode unchecked-hash \
      /opt/samebits/recipe/source
USER 1000:1000
SHELL ["/bin/sh", "-c"]
