"""Files on disks and in buckets: paths, atomic writes, result files."""
