"""The authors' network, loss and sampler: the same numbers from the same weights and the same draws, float32."""

import types

import numpy as np
import pytest

from mdps_ref.autograd.tape import Tensor, pull_back
from mdps_ref.diffusion.forward import level_per_image, noise_loss, q_sample
from mdps_ref.diffusion.schedule import alpha_bar
from mdps_ref.nn.unet import UNetConfig, unet
from mdps_ref.posterior.guidance import misfit_gradient
from mdps_ref.posterior.sampler import prior_denoiser
from mdps_ref.released.chain import batch_norm_guide, batch_unit_residual, released_chain, released_timesteps
from mdps_ref.released.names import GROUPS, from_released, to_released

TRAJECTORY = 1e-4  # a chain hands its rounding on from step to step


def whole_numbers(setting):
    """The numbers in a list, in "16,8", or one alone."""
    parts = setting.split(",") if isinstance(setting, str) else setting if isinstance(setting, list) else [setting]
    return tuple(int(part) for part in parts if part != "")


def config_of(case):
    """The UNetConfig that the authors' settings stand for.

    Their code attends where the image has been halved to 1 / (size // resolution) of its side.
    """
    size = case.setting("img_size")
    return UNetConfig(
        image_size=size,
        base_channels=case.setting("base_channels"),
        multipliers=whole_numbers(case.setting("channel_mults")),
        blocks=case.setting("num_res_blocks"),
        attention_sizes=tuple(size // (size // side) for side in whole_numbers(case.setting("attention_resolutions")) if side <= size),
        heads=case.setting("n_heads"),
        groups=GROUPS,
        channels=case.setting("in_channels"),
    )


@pytest.fixture(scope="module")
def network(unet_case):
    """The case, its config and weights, and the noise predictor that they are."""
    config = config_of(unet_case)
    weights = from_released(unet_case.state, config)
    return types.SimpleNamespace(
        case=unet_case, check=unet_case.check, config=config, weights=weights, predict_noise=lambda x, t: unet(weights, x, t, config)
    )


@pytest.fixture(scope="module")
def pulled(network):
    """The cotangent pulled back to x and to every weight, from one forward pass."""
    case = network.case
    x, weights = Tensor(case.array("x")), {name: Tensor(array) for name, array in network.weights.items()}
    eps = unet(weights, x, case.array("t"), network.config)
    to_x, *to_weights = pull_back(eps, case.array("cotangent"), [x, *weights.values()])
    return types.SimpleNamespace(x=to_x, weights=dict(zip(weights, to_weights, strict=True)))


def test_the_state_dict_comes_back_as_it_was(network):
    state, back = network.case.state, to_released(network.weights, network.config)
    assert {name: (w.shape, w.tobytes()) for name, w in back.items()} == {name: (w.shape, w.tobytes()) for name, w in state.items()}


def test_number_of_parameters(network):
    if "n_params" not in network.case.spec:
        pytest.skip("spec.json does not say how many there are")
    assert sum(w.size for w in network.weights.values()) == network.case.spec["n_params"]


def test_network_output(network):
    eps = network.predict_noise(network.case.array("x"), network.case.array("t"))
    assert eps.dtype == np.float32
    network.check("eps", eps)


def test_pullback_to_x(network, pulled):
    network.check("grad_x", pulled.x)


def test_norm_of_every_parameters_pullback(network, pulled):
    lengths = {name: np.linalg.norm(g) for name, g in to_released(pulled.weights, network.config).items()}
    names = [name.removeprefix("module.") for name in network.case.array("grad_param_names")]
    assert sorted(names) == sorted(lengths)
    network.check("grad_param_l2", [lengths[name] for name in names])


def test_loss(network):
    x, t, noise = (network.case.array(key) for key in ("x", "t", "loss_noise"))
    network.check("loss", noise_loss(network.predict_noise, x, t, noise, level_per_image(alpha_bar(t), x)))


def test_alpha_bar(unet_case):
    unet_case.check("alpha_bar", alpha_bar(np.arange(len(unet_case.array("alpha_bar"))) - 1))


def test_timesteps_visited(unet_case):
    timesteps = released_timesteps(unet_case.setting("steps"), unet_case.setting("skip"))
    assert timesteps == [*unet_case.array("seq").tolist()[::-1], -1]


def test_guidance(network):
    case = network.case
    y, t = case.array("y"), int(case.array("seq").max())
    x_t = q_sample(y, case.array("sample_draws")[0], alpha_bar(case.setting("steps")))
    _, gradient = misfit_gradient(network.predict_noise, x_t, np.full(len(y), t), y, alpha_bar(t), batch_unit_residual)
    network.check("guidance", gradient)


def trajectory(network, draws, mask):
    """x at the start and after every step of the authors' sampler.  Shapes: draws (S + 1, N, H, W, C) -> the same."""
    case, y = network.case, network.case.array("y")
    start, weight, remaining = case.setting("steps"), case.setting("w"), iter(draws)
    denoise = batch_norm_guide(network.predict_noise, y, weight) if weight else prior_denoiser(network.predict_noise)
    visited = [q_sample(y, draws[0], alpha_bar(start))]
    timesteps = released_timesteps(start, case.setting("skip"))
    released_chain(denoise, y, mask, start, timesteps, lambda: next(remaining), after_step=lambda s, x: visited.append(x))
    return np.stack(visited)


def test_trajectory_without_a_mask(network):
    network.check("sample_traj", trajectory(network, network.case.array("sample_draws"), None), TRAJECTORY)


def test_trajectory_under_the_mask(network):
    network.check("mask_traj", trajectory(network, network.case.array("mask_draws"), network.case.array("mask")), TRAJECTORY)
