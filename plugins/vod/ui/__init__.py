"""Pages inside the Airflow UI: all videos, one of them, those of a run."""
