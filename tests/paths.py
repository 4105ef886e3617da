"""Where the project and the stored arrays of its tests are."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDENS = Path(__file__).parent / "goldens"
