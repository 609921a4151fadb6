"""Files of weights: this project's checkpoints, and the formats of PyTorch and safetensors without their libraries."""
