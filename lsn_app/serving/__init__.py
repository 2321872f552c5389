"""What the server keeps and computes: backbones, detectors, features, and typed requests to them."""
