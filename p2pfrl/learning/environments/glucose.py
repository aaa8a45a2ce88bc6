"""Glucose: a day with type 1 diabetes and an insulin pump. A model, not a medical device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Environment, Spec

Row = Mapping[str, NDArray[Any]]

_PHYSICS = {
    "egp": 1.33,
    "gezi": 0.0022,
    "si": 0.0081,
    "ci": 20.1,
    "p2": 0.0106,
    "tau1": 49.0,
    "tau2": 47.0,
    "taum": 47.0,
    "vg": 253.0,
    "meals": 1.0,
    "noise": 0.2,
    "announce_error": 0.0,
    "dawn": 0.0,
}
_RANGES = {
    "egp": (0.3, 100.0),
    "gezi": (0.0, 1.0),
    "si": (1e-05, 0.02),
    "ci": (5.0, 1000.0),
    "p2": (0.0, 1.0),
    "tau1": (1.0, 10000.0),
    "tau2": (1.0, 10000.0),
    "taum": (1.0, 10000.0),
    "vg": (1.0, 100000.0),
    "meals": (0.0, 100.0),
    "noise": (0.0, 1.0),
    "announce_error": (0.0, 1.0),
    "dawn": (0.0, 1.0),
}
_HOURS, _GRAMS = np.array([7.0, 12.5, 18.5]), np.array([45.0, 65.0, 75.0])
MINUTES = 5
"""Minutes of a step, and Euler steps of a minute in it."""
_DAY = 288  # steps
MOST, _STEEP = 2000.0, 4.0
"""Most insulin, mU/min; the infusion is MOST exp(4 (a - 1))."""
ABSORBED = 0.9
"""Part of the carbohydrates that is absorbed."""
TARGET = 112.5
"""mg/dL at which the risk is 0, about."""
ISC, IP, IEFF, G, D1, D2, TIME, BEFORE = range(8)
"""Columns of the state: insulin under the skin and in plasma (mU/dL), its effect (1/min), glucose
(mg/dL), carbohydrates in two compartments of the gut (mg), the step of the day, glucose before.
Then for the three meals: their steps, their grams, and the grams that are announced."""
_MEALS = 8


@rule
class Glucose(Environment):
    """Dose insulin for a day; reward 1 - risk(G) / 10 for every 5 minutes.

    Per minute, with infusion u in mU/min: Isc' = (u / CI - Isc) / tau1, Ip' = (Isc - Ip) / tau2,
    Ieff' = p2 (SI Ip - Ieff), G' = -(GEZI + Ieff) G + EGP + D2 / (taum VG), D1' = -D1 / taum, D2' =
    (D1 - D2) / taum, by Euler steps of a minute. A meal of c grams adds 900 c mg to D1: 90% is
    absorbed. There are meals of 45, 65 and 75 g at 7:00, 12:30 and 18:30, each up to 30 minutes
    earlier or later, x meals x (1 +- noise). The action a in [-1, 1] gives u = 2000 exp(4 (a - 1)).
    risk(G) = 10 (1.509 ((ln G)^1.084 - 5.381))^2, with G within [20, 600]. A day starts with G in
    [90, 150] and insulin at the basal equilibrium, and has 288 steps.

    Observed are (G - 120) / 60, (G - G before) / 5, Isc / 2, Ip / 2, 50 Ieff, announced grams / 50,
    sin and cos of the day. Physics: egp 1.33 mg/dL/min, gezi .0022 /min, si .0081 dL/mU/min, ci
    20.1 dL/min, p2 .0106 /min, tau1 49, tau2 47, taum 47 min, vg 253 dL, meals 1, noise .2,
    announce_error 0 (a meal is announced up to this share too large or too small), dawn 0 (share of
    si that is missing from 4:00 to 8:00); numbers as used here. Measures: in_range (70 to 180
    mg/dL), below_70, below_54, above_180 (shares of the time), hypo_events (times that G fell below
    70, per day), insulin (U/h), glucose.

    Baselines: `basal` infuses CI (EGP / 112.5 - GEZI) / SI, which holds 112.5 mg/dL; `feedback`
    adds k (G - 112.5) + k 90 min G', k = .3 x .0081 / SI; `bolus` is basal, and for an announced
    meal the insulin that takes as much glucose away as the meal adds. All three know the physics,
    which agents do not observe. No optimum is known.

    Reference: the model is in the form of Kanderian et al., "Identification of intraday metabolic
    profiles during closed-loop glucose control in individuals with type 1 diabetes", Journal of
    Diabetes Science and Technology 3(5), 2009; the risk is that of Kovatchev, Cox,
    Gonder-Frederick, Clarke, "Symmetrization of the blood glucose measurement scale and its
    applications", Diabetes Care 20(11), 1997.

    Attributes:
        announce: whether a meal is announced in the step in which it is eaten.
    """

    announce: bool = True
    max_steps: int = Field(default=_DAY, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """Eight observations, one bounded action."""
        return Spec(
            observation=8,
            state=_MEALS + 9,
            action_low=(-1.0,),
            action_high=(1.0,),
            reset_noise=10,
            max_steps=self.max_steps,
            physics=_PHYSICS,
            ranges=_RANGES,
            measures=(
                "in_range",
                "below_70",
                "below_54",
                "above_180",
                "hypo_events",
                "insulin",
                "glucose",
            ),
            baselines={
                "basal": _basal,
                "feedback": _feedback,
                **({"bolus": _bolus} if self.announce else {}),
            },
        )

    @override
    def reset(self, physics: Row, noise: Array) -> Array:
        """Return glucose in [90, 150], insulin at its basal equilibrium, and the day's meals."""
        out = np.zeros((*noise.shape[:-1], _MEALS + 9))
        out[..., ISC] = out[..., IP] = basal(physics) / physics["ci"]
        out[..., IEFF] = physics["si"] * out[..., IP]
        out[..., G] = out[..., BEFORE] = 90.0 + 60.0 * noise[..., 0]
        out[..., _MEALS : _MEALS + 3] = np.floor((_HOURS + noise[..., 1:4] - 0.5) * 12.0)
        spread = 1.0 + physics["noise"][..., None] * (2.0 * noise[..., 4:7] - 1.0)
        grams = _GRAMS * physics["meals"][..., None] * spread
        error = 1.0 + physics["announce_error"][..., None] * (2.0 * noise[..., 7:10] - 1.0)
        out[..., _MEALS + 3 : _MEALS + 6] = grams
        out[..., _MEALS + 6 :] = grams * error
        return out

    @override
    def observe(self, state: Array, physics: Row) -> NDArray[np.float32]:
        """Return what the docstring of the class says."""
        out = np.empty((*state.shape[:-1], 8), dtype=np.float32)
        day = 2.0 * np.pi * state[..., TIME] / _DAY
        out[..., 0] = (state[..., G] - 120.0) / 60.0
        out[..., 1] = (state[..., G] - state[..., BEFORE]) / 5.0
        out[..., 2] = state[..., ISC] / 2.0
        out[..., 3] = state[..., IP] / 2.0
        out[..., 4] = state[..., IEFF] * 50.0
        out[..., 5] = meal(state, announced=True) / 50.0 if self.announce else 0.0
        out[..., 6], out[..., 7] = np.sin(day), np.cos(day)
        return out

    @override
    def step(
        self, state: Array, action: NDArray[Any], physics: Row, noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Infuse for five minutes."""
        p = physics
        u = MOST * np.exp(_STEEP * (action[..., 0].astype(np.float64) - 1.0))
        isc, ip, ieff, g, d1, d2 = (state[..., k] for k in range(6))
        hour = state[..., TIME] / 12.0 % 24.0
        si = p["si"] * np.where((hour >= 4.0) & (hour < 8.0), 1.0 - p["dawn"], 1.0)
        d1 = d1 + 1000.0 * ABSORBED * meal(state)
        for _ in range(MINUTES):  # all derivatives are of the old values
            isc, ip, ieff, g, d1, d2 = (
                isc + (u / p["ci"] - isc) / p["tau1"],
                ip + (isc - ip) / p["tau2"],
                ieff + p["p2"] * (si * ip - ieff),
                g + p["egp"] - (p["gezi"] + ieff) * g + d2 / (p["taum"] * p["vg"]),
                d1 - d1 / p["taum"],
                d2 + (d1 - d2) / p["taum"],
            )
        out: Array = state.copy()
        for k, values in enumerate((isc, ip, ieff, g, d1, d2)):
            out[..., k] = values
        out[..., TIME], out[..., BEFORE] = state[..., TIME] + 1, state[..., G]
        is_low = g < 70.0
        measures = {
            "in_range": (~is_low & (g <= 180.0)).astype(np.float64),
            "below_70": is_low.astype(np.float64),
            "below_54": (g < 54.0).astype(np.float64),
            "above_180": (g > 180.0).astype(np.float64),
            "hypo_events": (is_low & (state[..., G] >= 70.0)).astype(np.float64) * _DAY,
            "insulin": u * 0.06,
            "glucose": g,
        }
        return out, 1.0 - risk(g) / 10.0, np.zeros(state.shape[:2], dtype=np.bool_), measures


def risk(glucose: Array) -> Array:
    """Return 10 (1.509 ((ln G)^1.084 - 5.381))^2, G in mg/dL and within [20, 600]."""
    scaled = 1.509 * (np.log(np.clip(glucose, 20.0, 600.0)) ** 1.084 - 5.381)
    return 10.0 * np.square(scaled)


def basal(physics: Row) -> Array:
    """Return the infusion with the equilibrium G = EGP / (GEZI + SI u / CI) = 112.5, mU/min."""
    found: Array = physics["ci"] * (physics["egp"] / TARGET - physics["gezi"]) / physics["si"]
    return np.maximum(found, 0.0)


def meal(state: Array, *, announced: bool = False) -> Array:
    """Return the grams that are eaten in this step, or those that are announced, `(b, m)`."""
    out = np.zeros(state.shape[:-1])
    for k in range(_MEALS, _MEALS + 3):
        grams = state[..., k + (6 if announced else 3)]
        out = out + np.where(state[..., k] == state[..., TIME], grams, 0.0)
    return out


def to_action(infusion: Array) -> NDArray[np.float32]:
    """Return the action `(b, m, 1)` with an infusion `(b, m)` in mU/min, within the bounds."""
    exponent = np.log(np.maximum(infusion, 1e-9) / MOST) / _STEEP
    return np.clip(exponent + 1.0, -1.0, 1.0)[..., None].astype(np.float32)


def _basal(state: Array, physics: Row, t: NDArray[np.int64]) -> NDArray[np.float32]:
    return to_action(np.broadcast_to(basal(physics), state.shape[:2]))


def _feedback(state: Array, physics: Row, t: NDArray[np.int64]) -> NDArray[np.float32]:
    gain = 0.3 * (_PHYSICS["si"] / physics["si"])
    slope = (state[..., G] - state[..., BEFORE]) / MINUTES
    return to_action(basal(physics) + gain * (state[..., G] - TARGET + 90.0 * slope))


def _bolus(state: Array, physics: Row, t: NDArray[np.int64]) -> NDArray[np.float32]:
    # Near the target a gram adds 900 / VG mg/dL, and a mU takes 112.5 SI / CI away over time.
    gram = (1000.0 * ABSORBED / physics["vg"]) / (TARGET * physics["si"] / physics["ci"])
    return to_action(basal(physics) + gram * meal(state, announced=True) / MINUTES)
