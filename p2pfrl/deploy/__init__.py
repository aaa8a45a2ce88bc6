"""Deployments: the processes of a run, their journals, and one record of all."""
