"""Tree to DAG to cached, parallel execution to image."""
