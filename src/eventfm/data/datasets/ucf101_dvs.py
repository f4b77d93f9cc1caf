"""UCF101-DVS (Bi et al., TIP 2020): the clips of UCF101, shown on a screen before a camera.

Layout: `<class>/v_<class>_g<group>_c<clip>.mat`, groups from 01 to 25, columns x, y, ts and pol. Clips of a group
share actor or background, so that UCF101 divides by groups.
"""

from __future__ import annotations

from pathlib import Path

from eventfm.data.datasets.card import DatasetCard, Division
from eventfm.data.datasets.contract import Dataset, Found, Sample
from eventfm.data.datasets.layout import Tree, gaps
from eventfm.events import OnError, Sensor
from eventfm.io import open_recording
from eventfm.protocols import Recording

_CLASSES = (
    "ApplyEyeMakeup", "ApplyLipstick", "Archery", "BabyCrawling", "BalanceBeam", "BandMarching", "BaseballPitch",
    "Basketball", "BasketballDunk", "BenchPress", "Biking", "Billiards", "BlowDryHair", "BlowingCandles",
    "BodyWeightSquats", "Bowling", "BoxingPunchingBag", "BoxingSpeedBag", "BreastStroke", "BrushingTeeth",
    "CleanAndJerk", "CliffDiving", "CricketBowling", "CricketShot", "CuttingInKitchen", "Diving", "Drumming",
    "Fencing", "FieldHockeyPenalty", "FloorGymnastics", "FrisbeeCatch", "FrontCrawl", "GolfSwing", "Haircut",
    "HammerThrow", "Hammering", "HandstandPushups", "HandstandWalking", "HeadMassage", "HighJump", "HorseRace",
    "HorseRiding", "HulaHoop", "IceDancing", "JavelinThrow", "JugglingBalls", "JumpRope", "JumpingJack", "Kayaking",
    "Knitting", "LongJump", "Lunges", "MilitaryParade", "Mixing", "MoppingFloor", "Nunchucks", "ParallelBars",
    "PizzaTossing", "PlayingCello", "PlayingDaf", "PlayingDhol", "PlayingFlute", "PlayingGuitar", "PlayingPiano",
    "PlayingSitar", "PlayingTabla", "PlayingViolin", "PoleVault", "PommelHorse", "PullUps", "Punch", "PushUps",
    "Rafting", "RockClimbingIndoor", "RopeClimbing", "Rowing", "SalsaSpin", "ShavingBeard", "Shotput",
    "SkateBoarding", "Skiing", "Skijet", "SkyDiving", "SoccerJuggling", "SoccerPenalty", "StillRings",
    "SumoWrestling", "Surfing", "Swing", "TableTennisShot", "TaiChi", "TennisSwing", "ThrowDiscus",
    "TrampolineJumping", "Typing", "UnevenBars", "VolleyballSpiking", "WalkingWithDog", "WallPushups",
    "WritingOnBoard", "YoYo",
)  # fmt: skip
_BY_NAME = {name.lower(): name for name in _CLASSES}
_GROUPS = range(1, 26)
_TESTED = {"split1": range(1, 8), "split2": range(8, 15), "split3": range(15, 22)}
"""The groups that each of UCF101's three lists tests on; it trains on all others."""
_COUNTS = {"split1": (9_537, 3_783), "split2": (9_586, 3_734), "split3": (9_624, 3_696)}
_FILE = r"(?:^|/)v_([a-z]+)_g(\d\d)_c(\d\d)\.mat$"
_CARD = DatasetCard(
    name="ucf101-dvs",
    title="UCF101-DVS",
    task="recognition",
    sensor=Sensor(240, 180, "DAVIS240"),
    camera="DAVIS240C, before a screen that shows the clips",
    window={"by": "whole"},
    units="time in microseconds as the file has it; polarity 0 and 1",
    licence="not known; its page is to be asked",
    citation=(
        "Bi, Chadha, Abbas, Bourtsoulatze, Andreopoulos: Graph-Based Spatio-Temporal Feature Learning for Neuromorphic "
        "Vision Sensing. IEEE Transactions on Image Processing 29, 2020. Clips: Soomro, Zamir, Shah: UCF101: A Dataset "
        "of 101 Human Actions Classes From Videos in The Wild. CRCV-TR-12-01, 2012"
    ),
    home_page="https://github.com/PIX2NVS/NVS_FeatureLearning",
    download="Download UCF101-DVS from the link on the home page and unpack it: a folder for each class.",
    divisions=tuple(
        Division(
            name=name,
            source="official",
            about=(
                f"list {name[-1]} of UCF101 (trainlist0{name[-1]}, testlist0{name[-1]}): groups {tested[0]} to "
                f"{tested[-1]} of each class for testing, all others for training"
            ),
            counts=dict(zip(("train", "test"), _COUNTS[name], strict=True)),
        )
        for name, tested in _TESTED.items()
    ),
    classes=_CLASSES,
    traps=(
        "UCF101's lists are by groups. Clips of a group resemble each other, and a division drawn at random has them "
        "in training and test: figures on it do not compare.",
        "Classes are numbered from 0 by their names in order of ASCII, in which HammerThrow precedes Hammering and "
        "JumpRope JumpingJack; classInd.txt of UCF101 numbers from 1 and has both pairs the other way round.",
        "The folder HandstandPushups holds files called v_HandStandPushups; case is not looked at.",
        "How many clips a group has, 4 to 7, is not stored: a whole group that is missing is named, a clip is counted.",
    ),
)


def find(tree: Tree, division: Division) -> Found:
    """Return the samples by class, group and clip, all of which the names of files tell."""
    samples: list[Sample] = []
    groups: dict[str, set[int]] = {}
    for match, file in tree.match(_FILE):
        kind, group = _BY_NAME.get(match[1].lower()), int(match[2])
        if kind is None:
            continue
        split = "test" if group in _TESTED[division.name] else "train" if group in _GROUPS else ""
        samples.append(Sample(f"{kind}/g{match[2]}_c{match[3]}", (file,), _CLASSES.index(kind), split))
        groups.setdefault(kind, set()).add(group)
    problems = gaps(
        groups,
        dict.fromkeys(_CLASSES, _GROUPS),
        folder=str,
        file=lambda group: f"v_<class>_g{group:02d}_c*.mat",
        remedy=f"unpack its class again; the home page is {_CARD.home_page}",
    )
    return Found(tuple(samples), tuple(problems))


def open_sample(root: Path, sample: Sample, on_error: OnError) -> Recording:
    """Return one recording, in memory."""
    return open_recording(root / sample.files[0], "mat", _CARD.sensor, on_error)


DATASET = Dataset(_CARD, find, open_sample)
