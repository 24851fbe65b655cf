"""One experiment's study in memory: what to try next, what to stop, how a trial ended. Policies below it are pure."""
