"""Exported attributors: programs that run elsewhere (torch.export, ONNX), and the hub. Reads methods, changes none."""
