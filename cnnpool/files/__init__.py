"""Files on disk and in buckets: paths, atomic writes, result files."""
