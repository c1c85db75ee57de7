"""Graphs of ONNX without the onnx package: trees, protocol buffers, and cuts of a model."""
