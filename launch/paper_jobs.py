"""The figures of deep networks as jobs of a sweep."""

from launch import deep_runs
from launch.jobs import Job, unique


def jobs_of(item: str, preset: str) -> list[Job]:
    """A job a network, with all that the figure measures of it.

    Args:
      item: a key of `launch.deep_runs.ITEMS`.
      preset: "paper" or "cpu".
    """
    chosen = deep_runs.ITEMS[item].chosen(preset)
    return unique(Job(run.config(preset), (measurement,)) for run, measurement in chosen)
