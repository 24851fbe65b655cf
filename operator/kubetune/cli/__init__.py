"""`kubectl tune`: pure renderings (text, model, render, progress) and the few modules that talk to the cluster."""
