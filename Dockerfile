# The CPU image, a function of its build context: lock/, source/, image.json. `samebits build` lays the context out and
# passes every argument; the wheels come as a named context of their own.
ARG BASE=python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
FROM ${BASE}
ARG SOURCE_DATE_EPOCH

# Each step ends by dating all that it touched to SOURCE_DATE_EPOCH, so that its layer is the same whenever it is built.
# Done here and not by the builder, as only some exporters of some builders can rewrite times. Folders are mounted on
# /media, /mnt and /tmp only, which every base has: a mount point that is made leaves traces. (useradd dates an entry of
# /etc/shadow by SOURCE_DATE_EPOCH, too.)
SHELL ["/bin/sh", "-euc", "start=$(date +%s.%N); sleep 0.1; eval \"$0\"; find / -xdev -newerct \"@$start\" ! -path '/dev*' ! -path '/proc*' ! -path '/sys*' ! -path '/media*' ! -path '/mnt*' ! -path '/tmp*' ! -path /etc/hosts ! -path /etc/resolv.conf -exec touch --no-dereference --date=\"@$SOURCE_DATE_EPOCH\" {} +"]

RUN python3 -m venv --without-pip /opt/samebits/venv && mkdir -m 0777 /runs /work \
 && useradd --uid 1000 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin samebits \
 && rm -f /var/log/*log /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-

# (Dockerfile.gpu has CUDA here.)
# The locked wheels, without network, so that neither an index nor a site's certificates can have a part in it. pip
# itself comes from the base and stays outside. Compiled with a fixed hash seed: the order in frozen sets follows it.
RUN --network=none --mount=type=bind,source=lock,target=/media --mount=type=bind,from=wheelhouse,target=/mnt \
    --mount=type=tmpfs,target=/tmp export PYTHONDONTWRITEBYTECODE=1 \
 && python3 -m venv /tmp/pip \
 && /tmp/pip/bin/pip --python /opt/samebits/venv/bin/python install --no-index --find-links=/mnt \
      --require-hashes --no-deps --no-compile --no-cache-dir --disable-pip-version-check --quiet \
      --root-user-action=ignore -r /media/requirements.lock \
 && PYTHONHASHSEED=0 /opt/samebits/venv/bin/python -m compileall -q -j1 -x /nvidia/ \
      --invalidation-mode unchecked-hash /opt/samebits/venv/lib

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
    PYTHONPATH=/opt/samebits/recipe/source \
    PATH=/opt/samebits/venv/bin:/usr/local/bin:/usr/bin:/bin

WORKDIR /work
USER 1000:1000
ENTRYPOINT ["/opt/samebits/venv/bin/python", "-P", "-m", "samebits.runner"]

# What changes most comes last: the context itself, from which a run's folder gets it, and `samebits rebuild` the image.
ARG BASE_NAME
ARG BASE_DIGEST
ARG DEVICE
ARG LOCK_DIGEST
ARG SOURCE_DIGEST
ARG VERSION
LABEL org.opencontainers.image.title="samebits" \
      org.opencontainers.image.description="TensorFlow and Keras, hash-locked, with the samebits entrypoint" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.base.name="${BASE_NAME}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}" \
      samebits.device="${DEVICE}" \
      samebits.lock="${LOCK_DIGEST}" \
      samebits.source="${SOURCE_DIGEST}"
USER 0
RUN --network=none --mount=type=bind,target=/media cp -r /media /opt/samebits/recipe \
 && PYTHONHASHSEED=0 /opt/samebits/venv/bin/python -m compileall -q -j1 --invalidation-mode unchecked-hash \
      /opt/samebits/recipe/source
USER 1000:1000
SHELL ["/bin/sh", "-c"]
