"""`python -m otel_agents.cli` is `otel-agents`."""

from otel_agents.cli.main import main

main()
