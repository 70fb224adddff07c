"""Arms compared in every voxel: one repeated-measures model by fixed row vectors, and inference on images."""
