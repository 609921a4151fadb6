"""The rows that PyTorch is compared on, in PyTorch, channels first, under the names of `rows.py`; read there what each is.

Only `python -m mdps_ref.bench --against torch` imports this file; nothing else in the project knows PyTorch.
"""

import numpy as np
import torch
import torch.nn.functional as F

from mdps_ref.bench.rows import TIMESTEP
from mdps_ref.bench.weights import extractor_weights, kernel_like, network_weights, normal
from mdps_ref.diffusion.schedule import alpha_bar
from mdps_ref.nn import efficientnet, mobilenet
from mdps_ref.nn.layers import timestep_embedding
from mdps_ref.nn.resnet import LAYERS
from mdps_ref.nn.unet import NETWORKS, plan
from mdps_ref.scoring.features import EXTRACTORS

LAYOUT = {4: (3, 2, 0, 1), 3: (2, 0, 1), 2: (1, 0), 1: (0,)}


def channels_first(x):
    """(N, ..., C) -> a torch tensor (N, C, ...)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def parameters(weights):
    """Our arrays in PyTorch's order: kernels (Co, Ci, K, K), depthwise kernels (C, K, K), linear maps (Co, Ci)."""
    return {name: torch.from_numpy(np.ascontiguousarray(w.transpose(LAYOUT[w.ndim]))) for name, w in weights.items()}


def convolution(n, side, c_in, c_out):
    x, w, b = channels_first(normal(n, side, side, c_in)), kernel(c_in, c_out), torch.zeros(c_out)
    return without_graph(lambda: F.conv2d(x, w, b, padding=1))


def convolution_to_input(*shape):
    return _convolution_backward(*shape, (True, False, False))


def convolution_to_kernel(*shape):
    return _convolution_backward(*shape, (False, True, False))


def _convolution_backward(n, side, c_in, c_out, wanted):
    """PyTorch's pullback of a 3 x 3 convolution; wanted: (to x, to w, to the bias)."""
    x, g, w = channels_first(normal(n, side, side, c_in)), channels_first(normal(n, side, side, c_out)), kernel(c_in, c_out)
    settings = [c_out], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, wanted
    return without_graph(lambda: torch.ops.aten.convolution_backward(g, x, w, *settings))


def normalisation(n, side, c):
    x, scale, shift = channels_first(normal(n, side, side, c)), torch.ones(c), torch.zeros(c)
    return without_graph(lambda: F.silu(F.group_norm(x, 32, scale, shift)))


def normalisation_pullback(n, side, c):
    x, g = channels_first(normal(n, side, side, c)).requires_grad_(True), channels_first(normal(n, side, side, c))
    y = F.silu(F.group_norm(x, 32, torch.ones(c), torch.zeros(c)))
    return lambda: torch.autograd.grad(y, x, g, retain_graph=True)


def attention(n, side, c):
    qkv = channels_first(normal(n, side**2, 3 * c))
    return without_graph(lambda: _attend(qkv, 4))


def attention_pullback(n, side, c):
    qkv, g = channels_first(normal(n, side**2, 3 * c)).requires_grad_(True), channels_first(normal(n, side**2, c))
    y = _attend(qkv, 4)
    return lambda: torch.autograd.grad(y, qkv, g, retain_graph=True)


def network(name, images):
    config, p = NETWORKS[name], parameters(network_weights(NETWORKS[name]))
    x, t = channels_first(normal(images, config.image_size, config.image_size, 3)), np.full(images, TIMESTEP)
    return without_graph(lambda: _unet(p, x, t, config))


def guided_step(name, images):
    """The authors' way: a forward pass for eps, then one more, and a backward pass from the norm to x_t."""
    config, p, level = NETWORKS[name], parameters(network_weights(NETWORKS[name])), alpha_bar(TIMESTEP)
    x, t = channels_first(normal(images, config.image_size, config.image_size, 3)), np.full(images, TIMESTEP)
    y = 0.3 * x

    def step():
        with torch.no_grad():
            eps = _unet(p, x, t, config)
        wrapped = x.detach().requires_grad_(True)
        x0_hat = (wrapped - (1 - level) ** 0.5 * _unet(p, wrapped, t, config)) / level**0.5
        return eps, torch.autograd.grad(torch.linalg.norm(y - x0_hat), wrapped)

    return step


def training(name, batch):
    """A step: noise loss, gradient, clipping, Adam, moving average."""
    config = NETWORKS[name]
    p = {name: w.requires_grad_(True) for name, w in parameters(network_weights(config)).items()}
    mean, adam = [w.detach().clone() for w in p.values()], torch.optim.Adam(p.values(), lr=1e-4)
    x_0 = channels_first(normal(batch, config.image_size, config.image_size, 3))

    def step():
        noise, t = torch.randn_like(x_0), np.random.randint(1000, size=batch)
        level = torch.from_numpy(alpha_bar(t).astype(np.float32))[:, None, None, None]
        adam.zero_grad()
        ((noise - _unet(p, level**0.5 * x_0 + (1 - level) ** 0.5 * noise, t, config)) ** 2).mean().backward()
        torch.nn.utils.clip_grad_norm_(p.values(), 1.0)
        adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(mean, list(p.values()), 0.005)

    return step


def features(name, images, side):
    p, x = parameters(extractor_weights(name)), channels_first(normal(images, side, side, 3))
    run = {"efficientnet_lite0": _efficientnet, "mobilenet_v1": _mobilenet}.get(name, _resnet)
    return without_graph(lambda: run(p, x, EXTRACTORS[name].layers))


def _resnet(p, x, layers):
    """`nn.resnet.resnet_features` over the parameters p, up to layer3."""

    def conv(name, x, stride=1):
        w = p[f"{name}.weight"]
        return F.conv2d(x, w, p[f"{name}.bias"], stride=stride, padding=w.shape[-1] // 2)

    def block(name, x, stride):
        y = F.relu_(conv(f"{name}.conv2", F.relu_(conv(f"{name}.conv1", x)), stride))
        shortcut = conv(f"{name}.downsample.0", x, stride) if f"{name}.downsample.0.weight" in p else x
        return F.relu_(conv(f"{name}.conv3", y) + shortcut)

    h, outputs = F.max_pool2d(F.relu_(conv("conv1", x, 2)), 3, 2, 1), {}
    for layer in LAYERS[:3]:
        for number in range(sum(key.startswith(f"{layer}.") and key.endswith("conv1.weight") for key in p)):
            h = block(f"{layer}.{number}", h, 2 if number == 0 and layer != LAYERS[0] else 1)
        outputs[layer] = h
    return [outputs[layer] for layer in layers]


def _mobilenet(p, x, layers):
    """`nn.mobilenet.mobilenet_features` over the parameters p, for images of even sides."""
    h, outputs = F.relu6(_padded_conv(x, p["conv1.kernel"], p["conv1.bias"], 2)), {}
    for block in range(1, 1 + int(layers[-1].rpartition("_")[2])):
        kernel, bias = p[f"conv_dw_{block}.kernel"][:, None], p[f"conv_dw_{block}.bias"]
        h = F.relu6(_padded_conv(h, kernel, bias, 2 if block in mobilenet.HALVING else 1))
        h = outputs[f"conv_pw_{block}"] = F.relu6(F.conv2d(h, p[f"conv_pw_{block}.kernel"], p[f"conv_pw_{block}.bias"]))
    return [outputs[layer] for layer in layers]


def _efficientnet(p, x, layers):
    """`nn.efficientnet.efficientnet_features` over the parameters p, for images of even sides."""

    def one_by_one(name, x):
        return F.conv2d(x, p[f"{name}.weight"][:, :, None, None], p[f"{name}.bias"])

    h, outputs = F.relu6(_padded_conv((127.5 * x + 0.5) / 128, p["conv_stem.weight"], p["conv_stem.bias"], 2)), {}
    for block in range(1 + int(layers[-1].rpartition(".")[2])):
        name, stride = f"blocks.{block}", 2 if block in efficientnet.HALVING else 1
        y = F.relu6(one_by_one(f"{name}.expand_conv", h)) if block else h
        y = F.relu6(_padded_conv(y, p[f"{name}.depthwise_conv.weight"][:, None], p[f"{name}.depthwise_conv.bias"], stride))
        y = one_by_one(f"{name}.project_conv", y)
        h = outputs[name] = y + h if stride == 1 and y.shape == h.shape else y
    return [outputs[layer] for layer in layers]


def _padded_conv(x, kernel, bias, stride):
    """A convolution, depthwise if the kernel has one channel, with TensorFlow's padding "SAME" of images of even sides."""
    before, after = (kernel.shape[-1] - stride) // 2, (kernel.shape[-1] - stride + 1) // 2
    return F.conv2d(F.pad(x, (before, after, before, after)), kernel, bias, stride=stride, groups=x.shape[1] // kernel.shape[1])


def use_threads(count):
    """Inside PyTorch, as many threads as that."""
    torch.set_num_threads(count)


def kernel(c_in, c_out):
    """`rows.kernel_like`, as (Co, Ci, 3, 3)."""
    return parameters({"w": kernel_like(c_in, c_out)})["w"]


def without_graph(call):
    """The call, without writing down what a backward pass would need."""

    def run():
        with torch.no_grad():
            return call()

    return run


def _attend(qkv, heads):
    """As the authors write it.  Shapes: (N, 3 C, L) -> (N, C, L)."""
    n, width, length = qkv.shape
    d = width // (3 * heads)
    q, k, v = qkv.reshape(n * heads, 3 * d, length).split(d, dim=1)
    weights = torch.softmax(torch.einsum("bct,bcs->bts", q * d**-0.25, k * d**-0.25), dim=-1)
    return torch.einsum("bts,bcs->bct", weights, v).reshape(n, -1, length)


def _unet(p, x, t, config):
    """`nn.unet.unet` over the parameters p.  Shapes: x (N, C, H, W) -> the same."""

    def linear(name, x):
        return F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])

    def conv(name, x):
        return F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], padding=1)

    def norm(name, x):
        return F.group_norm(x, config.groups, p[f"{name}.weight"], p[f"{name}.bias"])

    def one_by_one(name, x):
        return F.conv2d(x, p[f"{name}.weight"][:, :, None, None], p[f"{name}.bias"])

    def run(block, x):
        h = F.silu(norm(f"{block.name}.norm_in", x))
        if block.resize == "half":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        elif block.resize == "double":
            h, x = F.interpolate(h, scale_factor=2), F.interpolate(x, scale_factor=2)
        h = conv(f"{block.name}.conv_in", h) + linear(f"{block.name}.time", F.silu(time))[:, :, None, None]
        h = conv(f"{block.name}.conv_out", F.silu(norm(f"{block.name}.norm_out", h)))
        h = h + (one_by_one(f"{block.name}.shortcut", x) if f"{block.name}.shortcut.weight" in p else x)
        if block.attends:
            qkv = one_by_one(f"{block.name}.attention.qkv", norm(f"{block.name}.attention.norm", h))
            mixed = _attend(qkv.flatten(2), config.heads).reshape(h.shape)
            h = h + one_by_one(f"{block.name}.attention.project", mixed)
        return h

    blocks = plan(config)
    wave = torch.from_numpy(timestep_embedding(t, config.base_channels).astype(np.float32))
    time = linear("time.1", F.silu(linear("time.0", wave)))
    skips = [conv("first", x)]
    for block in blocks.down:
        skips.append(run(block, skips[-1]))
    h = skips[-1]
    for block in blocks.middle:
        h = run(block, h)
    for block in blocks.up:
        h = run(block, h if block.resize else torch.cat([h, skips.pop()], dim=1))
    return conv("last.conv", F.silu(norm("last.norm", h)))
