"""The data sets by name; nothing of them is loaded before it is asked for."""

from __future__ import annotations

from eventfm.registry import Registry

DATASETS = Registry(
    "dataset",
    {
        "n-mnist": "eventfm.data.datasets.nmnist:DATASET",
        "n-caltech101": "eventfm.data.datasets.ncaltech101:DATASET",
        "n-imagenet": "eventfm.data.datasets.nimagenet:DATASET",
        "es-imagenet": "eventfm.data.datasets.esimagenet:DATASET",
        "n-cars": "eventfm.data.datasets.ncars:DATASET",
        "dvs128-gesture": "eventfm.data.datasets.dvs128_gesture:DATASET",
        "cifar10-dvs": "eventfm.data.datasets.cifar10_dvs:DATASET",
        "ucf101-dvs": "eventfm.data.datasets.ucf101_dvs:DATASET",
        "asl-dvs": "eventfm.data.datasets.asl_dvs:DATASET",
        "mvsec-flow-dt1": "eventfm.data.datasets.mvsec:FLOW_DT1",
        "mvsec-flow-dt4": "eventfm.data.datasets.mvsec:FLOW_DT4",
        "mvsec-depth": "eventfm.data.datasets.mvsec:DEPTH",
        "dsec-semantic-11": "eventfm.data.datasets.dsec_semantic:ELEVEN",
        "dsec-semantic-19": "eventfm.data.datasets.dsec_semantic:NINETEEN",
        "dsec-flow": "eventfm.data.datasets.dsec_flow:DATASET",
        "dsec-disparity": "eventfm.data.datasets.dsec_disparity:DATASET",
        "ddd17-seg": "eventfm.data.datasets.ddd17_seg:DATASET",
        "ecd-pairs": "eventfm.data.datasets.ecd_pairs:DATASET",
        "mvsec-pairs": "eventfm.data.datasets.mvsec_pairs:DATASET",
        "m3ed-pairs": "eventfm.data.datasets.m3ed_pairs:DATASET",
        "dsec-pairs": "eventfm.data.datasets.dsec_pairs:DATASET",
        "ddd17-pairs": "eventfm.data.datasets.ddd_pairs:DDD17",
        "ddd20-pairs": "eventfm.data.datasets.ddd_pairs:DDD20",
        "visevent-pairs": "eventfm.data.datasets.visevent_pairs:VISEVENT",
        "coesot-pairs": "eventfm.data.datasets.visevent_pairs:COESOT",
        "ef-imagenet": "eventfm.data.datasets.ef_imagenet:DATASET",
        "scaleevent-trio": "eventfm.data.datasets.scaleevent_trio:DATASET",
    },
)
"""Each a `contract.Dataset`. Other packages add theirs under the entry point group `eventfm.dataset`."""
