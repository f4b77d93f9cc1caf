"""What kind of sensor is simulated: thresholds, response to light, low-pass, noise, readout. No arrays here."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal

import numpy as np

from eventfm.registry import did_you_mean

SMALLEST_THRESHOLD = 0.01
LARGEST_THRESHOLD = 16.0

_PRESETS: dict[str, dict[str, Any]] = {
    "clean": {"sigma": 0.02},
    "noisy": {
        "sigma": 0.05,
        "cutoff_hz": 200.0,
        "leak_hz": 0.1,
        "shot_hz": 1.0,
        "hot_fraction": 1e-4,
        "refractory_us": 100,
    },
    "v2e-clean": {"sigma": 0.02, "log": "linlog_v2e", "init": "zero"},
    "v2e-noisy": {
        "sigma": 0.05,
        "log": "linlog_v2e",
        "init": "zero",
        "cutoff_hz": 30.0,
        "leak_hz": 0.1,
        "shot_hz": 5.0,
    },
    "esim": {"sigma": 0.0, "init": "zero"},
}

_RANGES: dict[str, tuple[float, float, str]] = {
    "c_pos": (SMALLEST_THRESHOLD, LARGEST_THRESHOLD, "natural-log units"),
    "c_neg": (SMALLEST_THRESHOLD, LARGEST_THRESHOLD, "natural-log units"),
    "sigma": (0, 1, "natural-log units"),
    "eps": (1e-9, 1, "full scale is 1"),
    "refractory_us": (0, 10**9, "microseconds"),
    "leak_hz": (0, 1000, "hertz"),
    "leak_spread": (0, 1, "decades"),
    "shot_hz": (0, 1e5, "hertz"),
    "hot_fraction": (0, 0.5, "share of the pixels"),
    "hot_hz": (0, 1e5, "hertz"),
    "dead_fraction": (0, 0.5, "share of the pixels"),
    "latency_us": (0, 10**9, "microseconds"),
    "jitter_us": (0, 10**9, "microseconds"),
    "tick_us": (1, 10**9, "microseconds"),
}
_CHOICES: dict[str, tuple[object, ...]] = {
    "init": ("zero", "uniform"),
    "log": ("log", "linlog", "linlog_v2e", "identity"),
    "refractory": ("hold", "drop", "suppress"),
    "poles": (1, 2),
}


@dataclass(frozen=True)
class SensorConfig:
    """An event sensor: thresholds, response to light, low-pass, noise and readout; noise is off unless asked for.

    Raises:
        ValueError: A value out of its range; the message names the field, the range and the unit.
    """

    c_pos: float = 0.2
    """ON threshold, natural-log units."""
    c_neg: float = 0.2
    """OFF threshold, natural-log units."""
    sigma: float = 0.03
    """Standard deviation of both thresholds from pixel to pixel; a pixel's thresholds stay at least 0.01."""
    eps: float = 1e-3
    """Intensity added before the logarithm (full scale is 1); sets how blind the dark is. Used by `log="log"`."""
    gamma: float | Literal["srgb"] | None = None
    """How the frames are coded: None = linear light, "srgb", or the exponent of a power law."""
    init: Literal["zero", "uniform"] = "uniform"
    """Distance of each pixel from its reference at the first frame: zero, or anywhere between its thresholds."""
    log: Literal["log", "linlog", "linlog_v2e", "identity"] = "log"
    """Response: ln(I + eps); ln(I) that goes straight below 20/255 without a kink; v2e's curve, which has one; or I
    itself (the frames hold a logarithm already)."""
    refractory_us: int = 0
    """How long a pixel sends nothing after an event, microseconds."""
    refractory: Literal["hold", "drop", "suppress"] = "hold"
    """What is lost meanwhile. `hold`: the change itself, for the pixel starts afresh when it wakes (as pixels do);
    `drop`: the events, the reference follows (ESIM); `suppress`: nothing, the event is sent on waking (v2e)."""
    cutoff_hz: float | None = None
    """Corner frequency of the photoreceptor at full light, lower in the dark (v2e's law); None = no low-pass."""
    poles: Literal[1, 2] = 1
    """Order of the low-pass: one pole, or two equal ones."""
    leak_hz: float = 0.0
    """ON events per second of a pixel that nothing changes for, by the leak of its reset switch."""
    leak_spread: float = 0.1
    """Spread of the leak rate over the pixels: standard deviation of its decimal logarithm, decades."""
    shot_hz: float = 0.0
    """Noise events per second of a mean pixel in the dark, ON and OFF together; a quarter of that at full light."""
    hot_fraction: float = 0.0
    """Share of the pixels that fire by themselves."""
    hot_hz: float = 30.0
    """Events per second of a hot pixel."""
    dead_fraction: float = 0.0
    """Share of the pixels that never send an event."""
    noise_resets: bool = True
    """A noise event resets its pixel as any event does. False: noise is laid over the clean events unchanged."""
    latency_us: int = 0
    """Readout: added to every time, microseconds."""
    jitter_us: int = 0
    """Readout: a further delay, even between 0 and this, event by event."""
    tick_us: int = 1
    """Readout: times are multiples of this, counted from the first frame, microseconds."""
    max_rate_hz: float | None = None
    """Readout: events per second of the whole sensor beyond which a millisecond's later events are lost."""
    seed: int = 0
    """With `clip_id` it fixes every random number of a clip."""

    def __post_init__(self) -> None:
        for name, (low, high, unit) in _RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, Real) or not low <= value <= high:
                raise ValueError(f"expected {name} in [{low:g}, {high:g}] ({unit}), got {value!r}")
        for name in ("refractory_us", "latency_us", "jitter_us", "tick_us", "seed"):
            value = getattr(self, name)
            if not isinstance(value, Real) or value % 1 != 0:
                raise ValueError(f"expected {name} to be a whole number, got {value!r}")
            object.__setattr__(self, name, int(value))  # 7.0 is taken for 7: times stay integers
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                expected = " or ".join(map(repr, choices))
                raise ValueError(f"expected {name} to be {expected}, got {getattr(self, name)!r}")
        if isinstance(self.gamma, str) and self.gamma != "srgb":
            raise ValueError(f"expected gamma to be None, 'srgb' or a number, got {self.gamma!r}")
        if isinstance(self.gamma, Real) and not 0.1 <= self.gamma <= 10:
            raise ValueError(f"expected gamma in [0.1, 10], got {self.gamma!r}")
        for name, low, high in (("cutoff_hz", 1e-3, 1e6), ("max_rate_hz", 1e3, 1e12)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, Real) or not low <= value <= high):
                raise ValueError(f"expected {name} to be None or in [{low:g}, {high:g}] (hertz), got {value!r}")

    @classmethod
    def preset(cls, name: str) -> SensorConfig:
        """Return a named sensor.

        "clean" is a good sensor without noise, "noisy" one with every imperfection at a moderate level; "v2e-clean" and
        "v2e-noisy" have the settings of v2e's presets of these names (Hu, Liu, Delbruck, CVPR-W 2021), "esim" the
        identical ideal pixels of ESIM (Rebecq, Gehrig, Scaramuzza, CoRL 2018).

        Raises:
            ValueError: No preset of that name.
        """
        if name not in _PRESETS:
            raise ValueError(f"unknown sensor preset {name!r}{did_you_mean(name, list(_PRESETS))}")
        return cls(**_PRESETS[name])

    @classmethod
    def sample(cls, rng: np.random.Generator, noise_probability: float = 0.5) -> SensorConfig:
        """Return a sensor drawn at random, for training that shall not depend on one sensor.

        Thresholds from 0.05 to 0.8 (log-uniform), ON and OFF within about a tenth of each other, their spread up to a
        quarter of them; eps from 0.001 to 0.03, or a linlog response; with `noise_probability` also noise: low-pass
        (half of the time, 20 to 500 Hz), leak and shot noise (0.01 to 1 and to 5 Hz), hot pixels, refractory time.

        Args:
            rng: From `eventfm.random.generator`; equal generators give equal sensors.
            noise_probability: Share of sensors with noise.
        """
        c_pos = _log_uniform(rng, 0.05, 0.8)
        config = cls(
            c_pos=c_pos,
            c_neg=c_pos * float(np.clip(rng.normal(1, 0.1), 0.7, 1.4)),
            sigma=c_pos * float(rng.uniform(0, 0.25)),
            log="linlog" if rng.uniform() < 0.3 else "log",
            eps=_log_uniform(rng, 1e-3, 3e-2),
            seed=int(rng.integers(2**62)),
        )
        return config.with_random_noise(rng) if rng.uniform() < noise_probability else config

    def with_random_noise(self, rng: np.random.Generator) -> SensorConfig:
        """Return this sensor with noise, low-pass and refractory time drawn at random; the ranges are `sample`'s."""
        return replace(
            self,
            cutoff_hz=_log_uniform(rng, 20, 500) if rng.uniform() < 0.5 else None,
            leak_hz=_log_uniform(rng, 0.01, 1),
            shot_hz=_log_uniform(rng, 0.01, 5),
            hot_fraction=1e-4,
            refractory_us=round(_log_uniform(rng, 100, 1000)) if rng.uniform() < 0.5 else 0,
        )

    def without_noise(self) -> SensorConfig:
        """Return the same pixels, thresholds included, with neither noise nor low-pass, refractory time or readout."""
        clean = ("cutoff_hz", "poles", "leak_hz", "shot_hz", "hot_fraction", "dead_fraction", "refractory_us")
        names = (*clean, "latency_us", "jitter_us", "tick_us", "max_rate_hz")
        defaults = SensorConfig()
        return replace(self, **{name: getattr(defaults, name) for name in names})

    @property
    def has_noise(self) -> bool:
        """Whether events are told apart into signal and noise."""
        return self.shot_hz > 0 or (self.hot_fraction > 0 and self.hot_hz > 0)


def checked(config: object) -> SensorConfig:
    """Return `config`, which is a sensor.

    Raises:
        ValueError: It is something else, such as the name of a preset.
    """
    if not isinstance(config, SensorConfig):
        raise ValueError(f"expected a SensorConfig, as SensorConfig.preset('noisy') returns, got {config!r}")
    return config


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))
