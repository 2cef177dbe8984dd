"""Runs jobs: slots and feeds, one attempt after another, limits, pools, and an orderly end."""
