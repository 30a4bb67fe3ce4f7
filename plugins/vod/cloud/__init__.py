"""VOD's wire protocol: client, signatures, tokens, quotas, states, errors. It does not know Airflow."""
