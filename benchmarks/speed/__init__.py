"""Seconds and kills: training steps, the app's answers, jobs under load and jobs that are killed."""
