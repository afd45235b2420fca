"""Pipelines, one file each; `godwit.synth` shows the minimum."""
