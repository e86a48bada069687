"""Programs of an attributor that run without this package: torch.export, ONNX, int8."""
