"""Devices and processes: meshes, sharding, settings that decide numbers."""
