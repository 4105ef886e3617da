"""Devices and processes: meshes, sharding, and settings that affect numerical results."""
