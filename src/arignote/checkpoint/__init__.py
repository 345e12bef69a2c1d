"""Checkpoints: atomic folders of safetensors and JSON, never pickle."""
