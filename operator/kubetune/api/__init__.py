"""What an Experiment says and what things are called: no I/O, imported by everyone, imports nobody."""
