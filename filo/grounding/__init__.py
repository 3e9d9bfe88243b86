"""Where anomalies are looked for: boxes and what they mean. Imports nothing else of ours."""
