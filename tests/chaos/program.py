"""A program of two agents that goes on a step for each line of its input, and prints each."""

from __future__ import annotations

import sys

from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from otel_agents import phase, run

writer = Agent(TestModel(custom_output_text="written"), name="writer")
critic = Agent(TestModel(custom_output_text="approved"), name="critic")

with run("press", id="press-1"):
    for number, _ in enumerate(sys.stdin):
        with phase("write"):
            text = writer.run_sync(f"chapter {number}").output
        with phase("review"):
            print(number, text, critic.run_sync(text).output, flush=True)  # noqa: T201 - what it is for
