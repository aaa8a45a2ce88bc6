"""Deployments: processes of one run, their journals, and one record made of all."""
