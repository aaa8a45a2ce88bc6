"""Parts of messages: how they quote a value, and which name they suggest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_MOST_NAMES = 32
_SHORT = 4  # names up to this length are similar only if nearly all letters are the same
_DECIMAL = re.compile(r"([+-]?)(\d*)[.,]?(\d*)([eE][+-]?\d+)?(\s*%)?")

SYNONYMS = {
    "lr": "learner.lr",
    "gamma": "learner.gamma",
    "hidden": "learner.hidden",
    "steps": "learner.steps",
    "env_steps": "stop.env_steps",
    "virtual_time": "stop.virtual_time",
    "target_return": "stop.target_return",
    "latency": "network.latency",
    "bandwidth": "network.bandwidth",
    "loss": "network.loss",
    "deadline": "schedule.deadline",
    "dropout": "availability.dropout",
    "participation": "coordinator.participation",
    "aggregator": "coordinator.aggregator",
    "payload": "exchange.payload",
    "learning_rate": "learner.lr",
    "step_size": "learner.lr",
    "alpha": "learner.lr",
    "discount": "learner.gamma",
    "discount_factor": "learner.gamma",
    "lam": "learner.gae_lambda",
    "lambda": "learner.gae_lambda",
    "clip_range": "learner.clip_coef",
    "clip_epsilon": "learner.clip_coef",
    "clip_param": "learner.clip_coef",
    "entropy_coef": "learner.ent_coef",
    "entropy_coeff": "learner.ent_coef",
    "value_coef": "learner.vf_coef",
    "vf_loss_coeff": "learner.vf_coef",
    "n_steps": "learner.steps",
    "num_steps": "learner.steps",
    "rollout_length": "learner.steps",
    "rollout_fragment_length": "learner.steps",
    "n_epochs": "learner.update_epochs",
    "num_epochs": "learner.update_epochs",
    "epochs": "learner.update_epochs",
    "n_minibatches": "learner.num_minibatches",
    "net_arch": "learner.hidden",
    "hidden_sizes": "learner.hidden",
    "fcnet_hiddens": "learner.hidden",
    "hidden_layers": "learner.hidden",
    "frame_stack": "learner.frame_stack",
    "framestack": "learner.frame_stack",
    "frame_stacking": "learner.frame_stack",
    "stack": "learner.frame_stack",
    "n_stack": "learner.frame_stack",
    "num_stack": "learner.frame_stack",
    "stack_size": "learner.frame_stack",
    "grad_clip": "learner.max_grad_norm",
    "num_rounds": "stop.rounds",
    "n_rounds": "stop.rounds",
    "rounds": "stop.rounds",
    "total_timesteps": "stop.env_steps",
    "num_timesteps": "stop.env_steps",
    "max_steps": "stop.env_steps",
    "timesteps": "stop.env_steps",
    "local_epochs": "schedule.every",
    "local_steps": "schedule.every",
    "local_updates": "schedule.every",
    "num_clients": "agents",
    "n_clients": "agents",
    "num_agents": "agents",
    "n_agents": "agents",
    "num_nodes": "agents",
    "clients": "agents",
    "random_seed": "seed",
    "random_state": "seed",
    "env": "environment.id",
    "env_id": "environment.id",
    "env_name": "environment.id",
    "environment_id": "environment.id",
    "n_envs": "environment.instances",
    "num_envs": "environment.instances",
    "env_kwargs": "environment.kwargs",
    "fraction_fit": "coordinator.participation",
    "min_fit_clients": "coordinator.participation",
    "client_fraction": "coordinator.participation",
    "strategy": "coordinator.aggregator",
    "aggregation": "coordinator.aggregator",
    "algorithm": "learner.kind",
    "algo": "learner.kind",
    "graph": "topology.kind",
    "delay": "network.latency",
    "drop_rate": "network.loss",
    "packet_loss": "network.loss",
    "eval_freq": "evaluation.every",
    "evaluation_interval": "evaluation.every",
    "n_eval_episodes": "evaluation.episodes",
    "evaluation_duration": "evaluation.episodes",
    "device": "compute.device",
    "num_gpus": "compute.device",
    "save_freq": "checkpoint.every",
    "checkpoint_frequency": "checkpoint.every",
}
"""Names without a section, and keys of other libraries (Stable-Baselines3, RLlib, CleanRL, Flower)
-> dotted keys here."""

ELSEWHERE = {
    "verbose": "give --quiet to a command for less",
    "tensorboard_log": "give --log tensorboard to a command",
    "output_dir": "give --out to a command",
    "log_dir": "give --out to a command",
    "n_jobs": "give --jobs to a command",
    "num_workers": "give --workers to a command, or --jobs for several runs",
}
"""Keys of other libraries that no scenario has -> what does it here."""


def key_of(name: str) -> str | None:
    """Return the dotted key that a name without a section, or of another library, stands for.

    >>> key_of("num-rounds"), key_of("nothing")
    ('stop.rounds', None)
    """
    return SYNONYMS.get(_plain(name))


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the closest of `names`, or the names if none is close.

    Names of other libraries count as close to what they mean here.

    >>> did_you_mean("metropoli", ["laplacian", "metropolis"])
    "; did you mean 'metropolis'?"
    >>> did_you_mean("learning_rate", ["gamma", "lr"])
    "; did you mean 'lr'?"
    >>> did_you_mean("num_rounds", ["gamma", "lr"])
    "; did you mean 'stop.rounds'?"
    """
    known = sorted(names)
    plain = _plain(name)
    if plain in SYNONYMS and SYNONYMS[plain].rpartition(".")[2] not in known:
        return f"; did you mean {SYNONYMS[plain]!r}?"
    if close := closest(name, known):
        return f"; did you mean {close!r}?"
    if plain in ELSEWHERE:
        return f"; {ELSEWHERE[plain]}"
    shown = [*known[:_MOST_NAMES], *(["..."] if len(known) > _MOST_NAMES else [])]
    return f"; known: {', '.join(shown)}" if known else "; there is none yet"


def closest(name: str, known: Sequence[str]) -> str | None:
    """Return the one of `known` that a name probably means; None if none is close.

    >>> closest("PPO", ["a2c", "ppo"]), closest("sac", ["a2c", "ppo"])
    ('ppo', None)
    """
    plain = {_plain(other): other for other in known}
    word = _plain(name)
    if word in plain:
        return plain[word]
    meant = SYNONYMS.get(word, "").rpartition(".")[2]
    if meant in known:
        return meant
    begun = [other for start, other in plain.items() if start.startswith(word)]
    if len(begun) == 1 and len(word) >= _SHORT:
        return begun[0]
    cutoff = 0.6 if len(word) > _SHORT else 0.7
    close = get_close_matches(word, plain, n=1, cutoff=cutoff)
    return plain[close[0]] if close else None


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def as_number(text: str) -> str:
    """Return how TOML writes the number that a text probably means; "" if it means none.

    >>> as_number(".001"), as_number("5%"), as_number("007"), as_number("0,5"), as_number("fast")
    ('0.001', '0.05', '7', '0.5', '')
    """
    match = _DECIMAL.fullmatch(text.strip())
    if not match or not (match[2] or match[3]) or len(text) > _MOST_NAMES:
        return ""
    sign, whole, part, power, percent = (group or "" for group in match.groups())
    whole = whole.lstrip("0") or "0"
    if percent:
        return f"{float(f'{sign}{whole}.{part or 0}{power}') / 100:.12g}"
    return f"{sign}{whole}{f'.{part}' if part else ''}{power}"


def printable(text: str) -> str:
    r"""Return a text of a file from elsewhere in one line, without codes that steer a terminal.

    >>> printable("cart\x1b[2Jpole")
    'cart\\x1b[2Jpole'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def show(value: object) -> str:
    """Return how a value of the file is quoted in a message: short, whatever it is."""
    try:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    except ValueError:  # Python writes no integer of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."
