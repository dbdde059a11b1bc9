"""The command `otel-agents`: one module a command, each imported only when it is asked for."""
