"""Clinical scales: a library of them as data files, and their scoring."""
