"""Serve an exported ONNX file with Triton Inference Server."""
