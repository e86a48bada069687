"""Exported explainers: folders, the hub, and programs that run elsewhere (torch.export, ONNX)."""
