"""`kubectl tune`: pure renderings (text, model, render, progress) and the few modules that read and write the cluster."""
