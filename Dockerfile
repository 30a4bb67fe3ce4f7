# The official Airflow image with this package, its DAGs, ffmpeg and the small English speech model.
FROM apache/airflow:3.3.2

USER root
# Volumes take their first owner from these folders.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ffmpeg \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner=airflow --group=root --mode=0775 /audio /models /standin
USER airflow

COPY --chown=airflow:0 pyproject.toml README.md LICENSE /opt/vod/
COPY --chown=airflow:0 plugins/vod /opt/vod/plugins/vod
# Airflow is named so that pip does not move it: a dependency that needs another version fails the build.
RUN pip install --no-cache-dir "apache-airflow==${AIRFLOW_VERSION}" "/opt/vod[speech,tiny-model]"
COPY --chown=airflow:0 dags /opt/airflow/dags
