"""The loop: wake → queue → observe → decide → act → status."""
