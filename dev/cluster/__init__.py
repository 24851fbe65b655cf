"""The local Kubernetes cluster: kind everywhere, and whatever kind needs where nothing can be pulled."""
