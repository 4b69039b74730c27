"""What compressing the pseudo-gradients costs in held-out loss, and what DiLoCo costs against its neighbours.

Trains with DiLoCo in one process, each pseudo-gradient through the real codec, error feedback, mean and outer step,
over paired seeds: one seed sets theta_0 and the order of the samples for every arm, so an arm's difference to fp32 is
the codec's. Beside the smaller model, on the same tokens: one node alone, and synchronous data parallel
(swarm/baseline.py). Each run's loss goes to quality_runs.log as soon as it is there; quality.log is made of those.

    python benchmarks/quality.py                  the tables of the README
    python benchmarks/quality.py --table 5m       run only what this one needs
    python benchmarks/quality.py --resume         without the runs that quality_runs.log already has
    python benchmarks/quality.py --quick          a small one: fewer seeds and rounds
    python benchmarks/quality.py --sweep          outer learning rate and momentum
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from scipy.stats import t as student

from benchmarks import quality_runs
from benchmarks.quality_runs import BASELINES, Losses, Setting
from benchmarks.quality_training import diloco
from benchmarks.report import logged
from ops.codec import CODECS
from swarm.config import RunConfig

ARMS = ("fp32", "int8", "int4", "int2")
BARS_PERCENT = {"int8": 1.0, "int4": 0.5, "int2": 1.0}
"""At most so much above fp32, with the whole interval."""
SWEEP = ((0.7, 0.0), (1.0, 0.0), (0.7, 0.3), (1.0, 0.3), (0.7, 0.5), (0.7, 0.9))
SWEEP_ROUNDS = 6
INTELLECT_1_INNER_STEPS = 100

Say = Callable[[str], None]


SETTINGS = {
    # Half the default inner steps and twice the rounds: the codec is used more often for the same tokens.
    "demo": Setting(RunConfig(inner_steps=20), 8, (*ARMS, *BASELINES)),
    "5m": Setting(
        RunConfig(model="5m", inner_steps=16, batch_size=2, precision="bf16"),
        8,
        ("fp32", "int4", "int2"),  # int8 costs nothing that can be seen with the smaller one
        seeds=10,  # its pairs differ by more than those of the smaller one
        held_out_tokens=1 << 14,
    ),
}
QUICK = Setting(RunConfig(inner_steps=20), 3, ARMS, seeds=2)


def show(setting: Setting, runs: Losses, say: Say) -> bool:
    """All that is known of one setting; True if nothing is missing and every codec is within its bar."""
    say(f"{setting}\nheld-out loss in nats per byte; traffic: so many times as much is sent by fp32 data parallel\n\n")
    for seed in range(setting.seeds):
        known = ((arm, runs.get((str(setting), arm, seed))) for arm in setting.arms)
        say(f"seed {seed}: " + "  ".join(f"{arm} {loss:.4f}" for arm, loss in known if loss is not None) + "\n")
    seeds = [seed for seed in range(setting.seeds) if all((str(setting), arm, seed) in runs for arm in setting.arms)]
    if len(seeds) < setting.seeds:
        say(f"\nruns are missing: {f'a table of seeds {seeds}' if len(seeds) > 1 else 'no table'}\n")
    if len(seeds) < 2:
        return False
    by_arm = {arm: [runs[str(setting), arm, seed] for seed in seeds] for arm in setting.arms}
    found = {arm: interval(percent(losses, by_arm["fp32"])) for arm, losses in by_arm.items()}
    steps = (setting.run.inner_steps, INTELLECT_1_INNER_STEPS)
    say(f"\n{'arm':22}{'bits/value':>11}{'traffic':>9}{f'at H = {steps[1]}':>12}{'loss':>9}")
    say(f"{'difference to fp32 DiLoCo, mean and 95 % interval':>54}\n")
    for arm, (mean, low, high) in found.items():
        shown = "" if arm == "fp32" else f"{mean:+9.2f} %  [{low:+.2f}, {high:+.2f}]"
        say(f"{arm:22}{sent(arm, steps)}{np.mean(by_arm[arm]):9.4f}{shown:>54}\n")
    say("\n")
    within = {arm: found[arm][2] <= bar for arm, bar in BARS_PERCENT.items() if arm in found}
    for arm, good in within.items():
        say(f"{arm}: whole interval at most {BARS_PERCENT[arm]:g} % above fp32: {'yes' if good else 'NO'}\n")
    say("\n")
    return all(within.values()) and len(seeds) == setting.seeds


def percent(losses: Sequence[float], of: Sequence[float]) -> list[float]:
    return [100 * (loss - reference) / reference for loss, reference in zip(losses, of, strict=True)]


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high) of the 95 % interval of the mean of paired differences."""
    values = np.array(differences)
    half = student.ppf(0.975, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size)
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def sent(arm: str, inner_steps: Sequence[int]) -> str:
    """Columns of an arm: bits a value, and how many times as much an fp32 all-reduce of the gradients in every step
    sends.

    Either sends 2(N-1)/N values per parameter and node: once a round here, half of them as parts and half as means,
    once a step there. So the factor is 32 / bits, times the inner steps of a round.
    """
    if arm not in CODECS:
        return f"{32:11.3f}{'1x':>9}{'1x':>12}" if arm == BASELINES[-1] else " " * 32
    bits = CODECS[arm].reduce_bits_per_value
    here, intellect_1 = (f"{steps * 32 / bits:.0f}x" for steps in inner_steps)
    return f"{bits:11.3f}{here:>9}{intellect_1:>12}"


def sweep(say: Say) -> bool:
    """Held-out loss for some outer learning rates and momenta."""
    run = RunConfig()
    title = f"held-out loss after {SWEEP_ROUNDS} rounds of {run.inner_steps} steps, by seed"
    say(f"{'outer lr':>9}{'momentum':>9}  {title}\n")
    for outer_lr, momentum in SWEEP:
        settings = {"outer_lr": outer_lr, "outer_momentum": momentum}
        losses = [diloco(run.model_copy(update={**settings, "seed": seed}), SWEEP_ROUNDS) for seed in range(2)]
        say(f"{outer_lr:9}{momentum:9}  {np.mean(losses):.4f}  ({', '.join(f'{loss:.4f}' for loss in losses)})\n")
    return True


def write_log(name: str, write: Callable[[Say], bool]) -> bool:
    with logged(Path(__file__).with_name(f"{name}.log")) as say:
        return write(say)


def main() -> int:
    parser = argparse.ArgumentParser(description="held-out loss by codec, beside one node and data parallel")
    parser.add_argument("--table", choices=SETTINGS, help="run only what this one needs")
    parser.add_argument("--resume", action="store_true", help=f"keep the runs in {quality_runs.LOG.name}")
    parser.add_argument("--quick", action="store_true", help="demo model, 2 seeds, 3 rounds")
    parser.add_argument("--sweep", action="store_true", help="choose outer learning rate and momentum instead")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, a core each")
    chosen = parser.parse_args()
    if chosen.sweep:
        return 0 if write_log("quality_sweep", sweep) else 1
    shown = [QUICK] if chosen.quick else list(SETTINGS.values())
    to_run = [SETTINGS[chosen.table]] if chosen.table else shown
    if not chosen.resume:
        quality_runs.forget(to_run)
    quality_runs.run_all(quality_runs.missing(to_run, quality_runs.read()), chosen.jobs)
    runs = quality_runs.read()
    name = "quality_quick" if chosen.quick else "quality"
    return 0 if write_log(name, lambda say: min([show(setting, runs, say) for setting in shown])) else 1


if __name__ == "__main__":
    raise SystemExit(main())
