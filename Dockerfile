# The official Airflow image, by its exact version, with this package, its DAGs, ffmpeg and the small English speech model.
FROM apache/airflow:3.3.2

USER root
# Volumes take their first owner from these folders.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ffmpeg \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner=airflow --group=root --mode=0775 /models /standin
USER airflow

COPY --chown=airflow:0 pyproject.toml requirements-runtime.txt README.md LICENSE /opt/vod/
COPY --chown=airflow:0 plugins/vod /opt/vod/plugins/vod
# Pinned with hashes, without test tools; Airflow is among the pins, in the version of the image.
RUN pip install --no-cache-dir --require-hashes --requirement /opt/vod/requirements-runtime.txt \
    && pip install --no-cache-dir --no-deps /opt/vod
COPY --chown=airflow:0 dags /opt/airflow/dags
