"""Data only: NAME.onnx, NAME.ranges.json, NAME.safetensors (fp16) and the card NAME.md of each model."""
