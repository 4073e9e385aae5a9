"""``dsm-ext plan``: token counts and multiply-adds of each block."""

from __future__ import annotations

import argparse

from dsm_ext._native import Schedule
from dsm_ext.cli.open_model import open_config


def run(args: argparse.Namespace) -> None:
    config, schedules = open_config(args)
    for name, schedule in schedules.items():
        if isinstance(schedule, str):
            schedule = Schedule.parse(schedule, config)
        print(f"{args.model}, {name}\n{schedule.plan(config)}", end="")
