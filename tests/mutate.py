"""Evidence that the tests bite: break the key lines of each equation, one at a time, and see which of its own tests go red.

python tests/mutate.py [ID ...]    prints a table, and works on a copy of the tree.
Exit status: 0 if every mutant was caught, 1 if one lives, 2 for an unknown id, a line that is gone, or tests that could not run.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
# equation, file in mdps_ref/, the line's text, what it becomes
MUTANTS = [
    ("E01", "diffusion/schedule.py", "np.cumprod(1.0 - betas)", "np.cumprod(1.0 + betas)"),
    ("E01", "diffusion/schedule.py", "np.linspace(first, last, steps", "np.geomspace(first, last, steps"),
    ("E01", "diffusion/schedule.py", "np.where(at < 0, 1.0, _TABLE[at])", "_TABLE[at]"),
    ("E02", "diffusion/schedule.py", "[*range(start, -1, -stride), -1]", "[*range(start - stride, -1, -stride), -1]"),
    ("E02", "diffusion/schedule.py", "[*range(start, -1, -stride), -1]", "[*range(start, -1, -stride)]"),
    ("E02", "released/chain.py", "range(0, start, stride)", "range(0, start + 1, stride)"),
    ("E03", "diffusion/forward.py", "level**0.5 * x_0 +", "level * x_0 +"),
    ("E03", "diffusion/forward.py", "(1 - level) ** 0.5 * noise", "(1 - level) * noise"),
    ("E04", "diffusion/forward.py", "ops.sum(residual * residual) / len(x_0)", "ops.mean(residual * residual)"),
    ("E05", "diffusion/reverse.py", "(x_t - (1 - alpha_bar_t) ** 0.5 * eps)", "(x_t - (1 - alpha_bar_t) * eps)"),
    ("E05", "diffusion/reverse.py", "* eps) / alpha_bar_t**0.5", "* eps)"),
    ("E06", "diffusion/reverse.py", "alpha_bar_s**0.5 * (1 - alpha) * x_0", "alpha_bar_t**0.5 * (1 - alpha) * x_0"),
    ("E06", "diffusion/reverse.py", "(1 - alpha) * (1 - alpha_bar_s) / (1 - alpha_bar_t)", "(1 - alpha)"),
    ("E07", "diffusion/reverse.py", "(1 - alpha_bar_s - c1**2) ** 0.5", "(1 - alpha_bar_s) ** 0.5"),
    ("E07", "diffusion/reverse.py", "ddim_eta * ((1 - alpha_bar_t / alpha_bar_s)", "ddim_eta * ((1 - alpha_bar_t)"),
    ("E07", "diffusion/reverse.py", "ddim_coefficients(alpha_bar_t, alpha_bar_s, ddim_eta)", "ddim_coefficients(alpha_bar_t, alpha_bar_s)"),
    ("E07", "diffusion/reverse.py", "+ c1 * z + c2 * eps", "+ c2 * z + c1 * eps"),
    ("E08", "posterior/observation.py", "self.mask * (x_0 + self.sigma * noise)", "self.mask * (x_0 + noise)"),
    ("E08", "posterior/observation.py", "(1 - self.mask) * x_0 +", "x_0 +"),
    ("E08", "posterior/observation.py", "- math.log(self.sigma * math.sqrt(2 * math.pi))", ""),
    ("E08", "posterior/observation.py", "(y - x_0) / self.sigma**2", "(y - x_0) / self.sigma"),
    ("E09", "posterior/guidance.py", "- weight * gradient", "+ weight * gradient"),
    ("E09", "posterior/guidance.py", "-eps / (1 - alpha_bar_t) ** 0.5 -", "-eps -"),
    ("E10", "posterior/guidance.py", "return 2 * residual", "return residual"),
    ("E10", "posterior/guidance.py", "pull_back(x0_hat, cotangent(x0_hat.value - y), [wrapped], last=True)", "(x0_hat.value - y,)"),
    ("E10", "posterior/guidance.py", "(residual * residual).sum(axis=(1, 2, 3), keepdims=True)", "(residual * residual).sum()"),
    ("E10", "posterior/guidance.py", "y, weight, twice_residual)", "y, weight, unit_residual)"),
    ("E10", "posterior/guidance.py", "1 / (2 * weight)", "1 / weight"),
    ("E10", "released/chain.py", "unit_residual(_as_one_image(residual)).reshape(residual.shape)", "unit_residual(residual)"),
    ("E10", "posterior/guidance.py", "+ variance * mask * g", "+ variance * g"),
    ("E10", "posterior/guidance.py", "(1 - alpha_bar_t) / alpha_bar_t**0.5 * to_x_t(g)", "to_x_t(g)"),
    ("E11", "posterior/guidance.py", "-((1 - alpha_bar_t) ** 0.5) * posterior_score", "-posterior_score"),
    ("E12", "posterior/guidance.py", "(x_t - alpha_bar_t**0.5 * y)", "(x_t - alpha_bar_t * y)"),
    ("E12", "posterior/sampler.py", "(1 - mask) * noise_towards(y, x_t, alpha_bar(t))", "(1 - mask) * denoise(x_t, t)"),
    ("E13", "posterior/sampler.py", "mask * denoise(x_t, t) + (1 - mask) *", "(1 - mask) * denoise(x_t, t) + mask *"),
    ("E13", "posterior/sampler.py", "denoise if mask is None else mdps_denoiser(denoise, y, mask)", "denoise"),
    ("E13", "posterior/sampler.py", "q_sample(y, draw(), alpha_bar(start))", "q_sample(y, draw(), alpha_bar(timesteps[0]))"),
    ("E13", "posterior/sampler.py", "draw(), alpha_bar(t), alpha_bar(s), ddim_eta)", "draw(), alpha_bar(t - 1), alpha_bar(s), ddim_eta)"),
    ("E13", "posterior/sampler.py", "alpha_bar(t), alpha_bar(s), ddim_eta)", "alpha_bar(t), alpha_bar(s))"),
    ("E13", "posterior/sampler.py", "for image in images for number in numbers", "for number in numbers for image in images"),
    ("E13", "posterior/guidance.py", "level = alpha_bar(t)", "level = alpha_bar(t - 1)"),
    ("E13", "released/chain.py", "q_sample(y, noise, alpha_bar(t))", "q_sample(y, draw(), alpha_bar(t))"),
    ("E13", "released/chain.py", "(1 - mask) * q_sample(y, noise,", "(1 - mask) * q_sample(x_t, noise,"),
    ("E13", "released/chain.py", "before_step=before_step", "before_step=None"),
    ("E13", "released/chain.py", "for number in numbers]", "for number in range(len(numbers))]"),
    ("E14", "posterior/mask.py", "1 - share", "share"),
    ("E14", "posterior/mask.py", "(maps > threshold)", "(maps > threshold * maps.max())"),
    ("E14", "released/chain.py", "least + share_of_range * (largest - least)", "share_of_range * largest"),
    ("E15", "scoring/difference.py", "absolute_difference(x_0 / (2 * deviation), y / (2 * deviation))", "absolute_difference(x_0, y)"),
    ("E16", "scoring/difference.py", "return 1 - cosine_similarity(a, b)", "return cosine_similarity(a, b)"),
    ("E16", "scoring/filters.py", "np.linspace(0, size_in - 1, size_out)", "np.linspace(0, size_in, size_out)"),
    ("E16", "scoring/filters.py", "np.eye(size, k=-1)) / 3", "np.eye(size, k=-1)) / 3 + 0.1"),
    ("E17", "scoring/difference.py", "features.max(axis=(1, 2), keepdims=True)", "features.max()"),
    ("E17", "released/chain.py", "fuse(_as_one_image(pixels), _as_one_image(features),", "fuse(pixels, features,"),
    ("E17", "scoring/difference.py", "(highest_pixel + (highest_pixel == 0))", "highest_pixel"),
    ("E18", "scoring/filters.py", "-0.5 * (offsets / sigma) ** 2", "-((offsets / sigma) ** 2)"),
    ("E18", "scoring/filters.py", "2 * (size - 1) - at", "2 * size - 1 - at"),
    ("E19", "scoring/image_score.py", "share = share / share.sum(axis=1, keepdims=True)", "share = share / share.sum()"),
    ("E19", "scoring/image_score.py", "axis=1)[:, -k:].mean(axis=1)", "axis=1)[:, :k].mean(axis=1)"),
    ("E19", "scoring/image_score.py", "maps.max(axis=(1, 2))", "maps.max(axis=(1, 2)) - maps.min()"),
    ("E20", "scoring/image_score.py", "maps.mean(axis=1), maps.std(axis=1)", "maps.mean(axis=1), maps.var(axis=1)"),
    ("E21", "scoring/metrics.py", "area_under(false_positive_rates, true_positive_rates, limit=1.0)", "true_positive_rates.mean()"),
    ("E22", "scoring/metrics.py", "np.average(precisions[1:], weights", "np.average(precisions[:-1], weights"),
    ("E23", "scoring/metrics.py", "area_under(*pro_curve(masks, maps), limit)", "area_under(*pro_curve(masks, maps), 1.0)"),
    ("E23", "scoring/curves.py", "shares = region_shares(anomalous.reshape(masks.shape))", "shares = anomalous / anomalous.sum()"),
    ("E24", "scoring/metrics.py", "2 * true_positives / (2 * true_positives", "true_positives / (true_positives"),
    ("E24", "scoring/metrics.py", "np.asarray(scores, np.float64) > threshold", "np.asarray(scores, np.float64) >= threshold"),
    ("E24", "scoring/metrics.py", "np.asarray(scores, np.float64) > threshold", "np.asarray(scores) > threshold"),
]


def main(ids):
    """Try the mutants of these equations, of all if none is given; return the exit status."""
    known = sorted({equation for equation, *_ in MUTANTS})
    unknown = [equation for equation in ids if equation not in known]
    if unknown:
        print(f"unknown equation {', '.join(unknown)}; choose from {', '.join(known)}", file=sys.stderr)
        return 2
    lived, faults = 0, 0
    print("| equation | broken line | becomes | red tests |\n|---|---|---|---|")
    for equation, file, line, broken in MUTANTS:
        if not ids or equation in ids:
            red, fault = red_tests(equation, file, line, broken)
            lived, faults = lived + (not red and not fault), faults + bool(fault)
            told = f"ERROR: {fault}" if fault else ", ".join(red) or "NONE: it lives"
            print(f"| {equation} | `{line}` | `{broken}` | {told} |", flush=True)
    print(f"\n{lived} mutants live" + (f"; {faults} could not be tried" if faults else ""))
    return 2 if faults else 1 if lived else 0


def red_tests(equation, file, line, broken):
    """The equation's own tests that fail when `line` of `file` becomes `broken`, and why they could not run, or ""."""
    with tempfile.TemporaryDirectory() as copy:
        for part in ("mdps_ref", "tests", "tutorials", "data_scripts", "setup.cfg", "README.md"):
            source = ROOT / part
            (shutil.copytree if source.is_dir() else shutil.copy)(source, pathlib.Path(copy) / part)
        path = pathlib.Path(copy) / "mdps_ref" / file
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if line not in text:
            return [], f"{file} holds no such line"
        path.write_text(text.replace(line, broken), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--equation", equation, "tests"]
        result = subprocess.run(command, cwd=copy, env=os.environ | {"PYTHONPATH": copy}, capture_output=True, text=True)
    if result.returncode not in (0, 1):
        return [], f"pytest ended with status {result.returncode}: {_last_line(result.stdout + result.stderr)}"
    return sorted(set(re.findall(r"^(?:FAILED|ERROR) \S*?::(\w+)", result.stdout, re.MULTILINE))), ""


def _last_line(text):
    """The last line that says something."""
    return ([line.strip() for line in text.splitlines() if line.strip()] or ["it printed nothing"])[-1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
