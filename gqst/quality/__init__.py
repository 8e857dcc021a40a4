"""Quality of a run: targets, alarms, and the ranking of its rounds. Numbers only."""
