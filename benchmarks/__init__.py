"""Measurements that README, model card and results quote, each by one command."""
