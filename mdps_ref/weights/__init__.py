"""Files of weights: this project's own checkpoints, and the formats of PyTorch and safetensors without their libraries."""
