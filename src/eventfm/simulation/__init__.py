"""Pictures, video and made worlds to events: exact, fast, with everything known about what was simulated.

* `EventSimulator`, `simulate`, `simulate_voxel`: frames to events; `SensorConfig` says what kind of sensor.
* `make_clip`, `shoot`, `supervise`, `twins`: a still picture in motion, and what a network may learn from it.
* `random_scene`, `film_scene`, `supervise_scene`: worlds of labelled things with depth.
* `video_frames`, `densified`: frames of any video.

What each name is, and where it stands, is in `__init__.pyi`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
