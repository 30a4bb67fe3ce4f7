"""What the sample DAGs are made of: form parameters, planning, manifests, reports, pools."""
