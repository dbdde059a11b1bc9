"""The chart in deploy/kubernetes: what Helm makes of it, held against schemas and real parts."""
